"""The training loop: state and batches in, state out."""

from collections.abc import Callable
from typing import Any

import jax

from pi0_jax.errors import InputError
from pi0_jax.training.optimizer import OptimizerConfig, check_rules, make_optimizer
from pi0_jax.training.step import Loss, Metrics, TrainState, init_state, make_update
from pi0_jax.types import Batch

Update = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]


def prepare(
    params: Any, loss: Loss, config: OptimizerConfig, total_steps: int
) -> tuple[TrainState, Update]:
    """A fresh training state and its update.

    Raises:
        InputError: an optimizer rule matches no parameter, or freezes all.
    """
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    check_rules(paths, config.rules)
    optimizer = make_optimizer(config, total_steps)
    return init_state(params, optimizer, config.rules), make_update(loss, optimizer, config.rules)


def fit(
    state: TrainState,
    update: Update,
    batch_of: Callable[[int], Batch],
    until: int,
    rng: jax.Array,
    log_every: int,
    log: Callable[[int, dict[str, float]], None],
) -> TrainState:
    """Updates until step `until`.

    Args:
        state: where to go on; it is donated.
        update: from `prepare`.
        batch_of: step -> host batch; a function of the step alone, so a resumed run goes on with
            the batches of an unbroken one.
        until: step to stop before.
        rng: key of the run; updates fold it with their step.
        log_every: steps between two looks at the metrics, which wait for the device.
        log: (steps done, metrics).

    Raises:
        InputError: the loss is no longer finite.
    """
    for step in range(int(state.step), until):
        state, metrics = update(state, jax.device_put(batch_of(step)), rng)
        if (step + 1) % log_every == 0 or step + 1 == until:
            values = {name: float(value) for name, value in jax.device_get(metrics).items()}
            if not abs(values["loss"]) < float("inf"):
                raise InputError(f"loss is {values['loss']} at step {step + 1}: lower the rate")
            log(step + 1, values)
    return state
