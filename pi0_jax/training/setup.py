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
    """A fresh training state and its update, refused before anything of it is allocated.

    Args:
        params: whole tree, on the host or a device; it is copied.
        model: its architecture.
        make_loss: of a network; called once per `remat` that the count of memory looks at.
        optimizer: what is trained, and how.
        total_steps: of the learning-rate schedule.
        batch: the whole batch, arrays or shapes (`memory.abstract_batch`).
        hardware: the layout.

    Returns:
        State, update, and what the update needs of a device.

    Raises:
        InputError: as `memory.check` and `create_training`.
    """

    @functools.cache
    def loss_of(remat: str) -> Loss:
        """The loss, where the backward pass computes more or less again."""
        return make_loss(dataclasses.replace(hardware, remat=remat).network(model))

    budget = check(Job(params, loss_of, optimizer, batch, hardware))
    loss = loss_of(hardware.remat)
    return *create_training(params, loss, optimizer, total_steps, hardware), budget
