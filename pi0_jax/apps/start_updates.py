"""Checks every update of a run before anything is done: what is trained, and whether it fits."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from pi0_jax.apps.sections import RiptSettings, SupervisedSettings, without_rollouts
from pi0_jax.apps.settings import TrainSettings
from pi0_jax.errors import InputError
from pi0_jax.model.pi0 import Pi0
from pi0_jax.policy.spec import PolicySpec
from pi0_jax.run.batch_shapes import batch_shapes
from pi0_jax.run.methods import RIPT
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.memory import Job, check, limit_of
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.step import Loss
from pi0_jax.training.supervised import flow_matching_loss
from pi0_jax.types import Batch


class Planned(NamedTuple):
    """One kind of update: its section of the config, and what `memory.Job` needs."""

    section: str
    optimizer: OptimizerConfig
    batch: Batch
    loss: Callable[[Pi0], Loss]


def check_updates(
    settings: TrainSettings, spec: PolicySpec, methods: Mapping[str, RiptSettings]
) -> None:
    """Checks every update of a training, as `check_update`."""
    for planned in _planned(settings, spec, methods):
        check_update(planned, spec, settings.hardware)


def check_update(planned: Planned, spec: PolicySpec, hardware: Hardware) -> None:
    """Checks the optimizer rules of an update, and its memory where the device's is known.

    Raises:
        InputError: a rule matches no parameter, everything is frozen, or the update cannot fit; the
            message names the section.
    """

    def loss_of(remat: str) -> Loss:
        """The loss of a network with this `remat`."""
        return planned.loss(replace(hardware, remat=remat).network(spec.model))

    params = Pi0(spec.model).shapes()
    job = Job(params, loss_of, planned.optimizer, planned.batch, hardware)
    try:
        # The rules alone: the count of memory traces the whole loss.
        job.parts() if limit_of(hardware) is None else check(job)
    except InputError as error:
        raise InputError(f"config.{planned.section}: {error}") from error


def _planned(
    settings: TrainSettings, spec: PolicySpec, methods: Mapping[str, RiptSettings]
) -> Iterator[Planned]:
    sft = settings.sft
    if sft.steps:
        yield supervised_update("sft", sft, spec)
    for name, ript in methods.items() if settings.rl.iterations else ():
        section = "rl" if name == RIPT else f"baselines.{name}"
        if ript.groups.groups_per_iteration:
            yield Planned(section, ript.optimizer, *_update_of(ript, spec))
        else:
            yield supervised_update(section, without_rollouts(sft, ript), spec)


def supervised_update(section: str, sft: SupervisedSettings, spec: PolicySpec) -> Planned:
    """An update of plain imitation."""
    loss = partial(flow_matching_loss, time_samples=sft.time_samples)
    return Planned(section, sft.optimizer, batch_shapes(spec, sft.batch_size), loss)


def _update_of(ript: RiptSettings, spec: PolicySpec) -> tuple[Batch, Callable[[Pi0], Loss]]:
    """Batch and loss of an update of RL."""
    mode = ript.branch_mode
    spec = replace(spec, branch_mode=mode)
    batch = batch_shapes(spec, ript.batch_size, chains=ript.chosen.rollout_noise > 0)
    return batch, partial(ript.chosen.loss, time_samples=ript.time_samples, branch_mode=mode)
