"""What every stage of a run needs in hand."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pi0_jax.env.gl import choose_renderer
from pi0_jax.env.pool import SimulatorPool, cores
from pi0_jax.env.suite import Suite
from pi0_jax.run_folder import RunFolder, protocol

_SEED_STRIDE = 10_000_000  # initial states apart from one run's seed to the next


@dataclass(frozen=True)
class Session:
    """A running job.

    Attributes:
        run: where everything is written.
        suite: the tasks.
        pool: where the simulators are.
        seed: of the whole run.
    """

    run: RunFolder
    suite: Suite
    pool: SimulatorPool
    seed: int

    def rng(self, *key: int) -> np.random.Generator:
        """A generator of the run's seed and `key` alone: a resumed run draws the same."""
        return np.random.default_rng((self.seed, *key))

    def first_state(self, first_seed: int) -> int:
        """Seed of the first initial state of a training stream: every run seed has its own."""
        return first_seed + _SEED_STRIDE * self.seed


@contextlib.contextmanager
def open_session(
    workdir: Path, resume: bool, config: Any, suite: Suite, **settings: Any
) -> Iterator[Session]:
    """Opens the run folder and starts the simulators, which end with the session.

    Args:
        workdir: the run folder.
        resume: continue what lies there.
        config: of the run, an ml_collections ConfigDict.
        suite: the tasks.
        settings: what the run depends on beside its config; stored with it.

    Raises:
        InputError: as `RunFolder`, or nothing can render here.
    """
    workers, renderer = config.pool.workers or cores(), choose_renderer()
    run = RunFolder(workdir, {**settings, **config.to_dict()}, resume, config.wandb_project)
    run.protocol = protocol(suite, renderer)
    run.say(f"{suite.name}: {workers} simulators, {renderer} rendering, {jax.devices()[0]}")
    with SimulatorPool(workers, config.pool.timeout_s, renderer=renderer) as pool:
        yield Session(run, suite, pool, config.seed)
