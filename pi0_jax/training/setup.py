"""A training from its parts: the memory is counted first, then state and update are made."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from pi0_jax.model.config import Pi0Config
from pi0_jax.model.pi0 import Pi0
from pi0_jax.training.fit import Update, create_training
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.memory import Budget, Job, check
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.step import Loss, TrainState
from pi0_jax.types import Batch


def set_up_training(
    params: Any,
    model: Pi0Config,
    make_loss: Callable[[Pi0], Loss],
    optimizer: OptimizerConfig,
    total_steps: int,
    batch: Batch,
    hardware: Hardware,
) -> tuple[TrainState, Update, Budget]:
    """A fresh training state and its update; what cannot fit is refused before it is allocated.

    Args:
        params: whole parameter tree, on the host or a device; it is copied.
        model: architecture of the network.
        make_loss: network -> loss; called once per `remat` for which memory is counted.
        optimizer: what is trained, and how.
        total_steps: length of the learning-rate schedule, in optimizer steps.
        batch: the whole batch, arrays or shapes (`memory.abstract_batch`).
        hardware: layout of the update on the devices.

    Returns:
        State, update, and the memory that the update needs on one device.

    Raises:
        InputError: as `memory.check` and `create_training`.
    """

    # Cached, so that the loss that was counted is the loss that is trained with.
    @functools.cache
    def loss_of(remat: str) -> Loss:
        """The loss of a network with this `remat`."""
        return make_loss(dataclasses.replace(hardware, remat=remat).network(model))

    # First, from shapes alone: what does not fit is refused before any copy is made.
    budget = check(Job(params, loss_of, optimizer, batch, hardware))
    loss = loss_of(hardware.remat)
    return *create_training(params, loss, optimizer, total_steps, hardware), budget
