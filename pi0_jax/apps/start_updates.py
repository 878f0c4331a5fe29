"""Checks every update of a run before anything is done: what is trained, and whether it fits."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from pi0_jax.apps.sections import RiptSettings
from pi0_jax.apps.settings import TrainSettings
from pi0_jax.errors import InputError
from pi0_jax.model.pi0 import Pi0
from pi0_jax.policy.folder import PolicySpec
from pi0_jax.run.batch_shapes import batch_shapes
from pi0_jax.run.folder import RIPT
from pi0_jax.training.memory import Job, check, limit_of
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.step import Loss
from pi0_jax.training.supervised import flow_matching_loss


class _Planned(NamedTuple):
    """One kind of update: its section of the config, and what `memory.Job` needs."""

    section: str
    optimizer: OptimizerConfig
    batch_size: int
    loss: Callable[[Pi0], Loss]


def check_updates(
    settings: TrainSettings, spec: PolicySpec, methods: Mapping[str, RiptSettings]
) -> None:
    """Checks the optimizer rules of every update, and its memory where the device's is known.

    Raises:
        InputError: a rule matches no parameter, everything is frozen, or an update cannot fit; the
            message names the section.
    """
    params = Pi0(spec.model).shapes()
    hardware = settings.hardware
    for section, optimizer, size, loss in _planned(settings, methods):
        batch = batch_shapes(spec, size)

        def loss_of(remat: str, loss: Callable[[Pi0], Loss] = loss) -> Loss:
            """The loss of a network with this `remat`."""
            return loss(replace(hardware, remat=remat).network(spec.model))

        job = Job(params, loss_of, optimizer, batch, hardware)
        try:
            # The rules alone: the count of memory traces the whole loss.
            job.parts() if limit_of(hardware) is None else check(job)
        except InputError as error:
            raise InputError(f"config.{section}: {error}") from error


def _planned(settings: TrainSettings, methods: Mapping[str, RiptSettings]) -> Iterator[_Planned]:
    sft = settings.sft
    supervised = partial(flow_matching_loss, time_samples=sft.time_samples)
    if sft.steps:
        yield _Planned("sft", sft.optimizer, sft.batch_size, supervised)
    for name, ript in methods.items() if settings.rl.iterations else ():
        section = "rl" if name == RIPT else f"baselines.{name}"
        # Chains, and a prompt per branch, are small beside what an update keeps.
        if ript.groups.groups_per_iteration and not ript.chosen.rollout_noise:
            loss = partial(
                ript.chosen.loss, time_samples=ript.time_samples, branch_mode="embedding"
            )
            yield _Planned(section, ript.optimizer, ript.batch_size, loss)
