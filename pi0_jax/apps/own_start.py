"""RUN/start: the checkpoint that training starts from, where checkpoints leave leaves of it out.

It is linked, or copied once, so that the run goes on when the user's folder is gone.
"""

import dataclasses
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

from pi0_jax.apps.finetune_settings import FineTuneSettings
from pi0_jax.apps.settings import TrainSettings
from pi0_jax.apps.start import fingerprint
from pi0_jax.errors import InputError
from pi0_jax.hosts import talk
from pi0_jax.io.link_folder import link_folder
from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.run.folder import START, RunFolder
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.step import split

S = TypeVar("S", TrainSettings, FineTuneSettings)


def with_own_start(settings: S, run: Path) -> S:
    """The settings, with RUN/start in place of a checkpoint that is gone.

    Args:
        settings: settings of a run.
        run: its folder, which need not exist.
    """
    given, own = Path(settings.init.checkpoint).expanduser(), run / START
    if not settings.init.checkpoint or given.is_dir() or not own.is_dir():
        return settings
    init = dataclasses.replace(settings.init, checkpoint=str(own))
    return dataclasses.replace(settings, init=init)


def kept_start(
    run: RunFolder, start: PolicyFolder, optimizers: Iterable[OptimizerConfig]
) -> PolicyFolder:
    """The policy that training starts from, in the run folder if some of it stays frozen.

    Args:
        run: the run.
        start: as it was read; without a path it has no files.
        optimizers: of all trainings that start from it.

    Raises:
        InputError: RUN/start is another policy, or the disk has no room for a copy.
    """
    frozen = any(split(start.params, one.all_rules)[1] for one in optimizers)
    if start.path is None or not frozen:
        return start
    talk.first(partial(_keep, run, start.path))
    # Of several hosts the first alone has the run folder.
    return dataclasses.replace(start, path=run.path / START) if talk.leads() else start


def _keep(run: RunFolder, start: Path) -> None:
    """Links or copies the policy in the folder `start`; errors as `kept_start`."""
    own = run.path / START
    if start == own:
        run.message(f"the checkpoint that config.init names is gone; {own} is used")
    elif not own.exists():
        done = link_folder(start, own)
        run.message(f"{own}: {done} of {start}; checkpoints hold only what is trained")
    elif fingerprint(own) != fingerprint(start):
        raise InputError(
            f"{start}: is another checkpoint than the one that this run started from, {own}; "
            "name that one, or start a new run"
        )
