"""The training state and the one jitted update, for any loss(params, batch, rng)."""

from collections.abc import Callable
from typing import Any

import flax.struct
import flax.traverse_util
import jax
import jax.numpy as jnp
import optax

from pi0_jax.training.optimizer import multiplier
from pi0_jax.types import Batch

Params = Any
Metrics = dict[str, jax.Array]
Loss = Callable[[Params, Batch, jax.Array], tuple[jax.Array, Metrics]]
Rules = tuple[tuple[str, float], ...]


@flax.struct.dataclass
class TrainState:
    """All that training carries from one update to the next.

    Attributes:
        step: int32 scalar, updates done.
        params: whole parameter tree.
        opt_state: optimizer state, of trained leaves only.
    """

    step: jax.Array
    params: Params
    opt_state: Any


def split(params: Params, rules: Rules) -> tuple[dict[str, Any], dict[str, Any]]:
    """Trained and frozen leaves, each flat: slash-joined path -> leaf."""
    flat = flax.traverse_util.flatten_dict(params, sep="/")
    trained = {path: leaf for path, leaf in flat.items() if multiplier(path, rules)}
    return trained, {path: leaf for path, leaf in flat.items() if path not in trained}


def merge(trained: dict[str, Any], frozen: dict[str, Any]) -> Params:
    """Inverse of `split`."""
    return flax.traverse_util.unflatten_dict(trained | frozen, sep="/")


def init_state(params: Params, optimizer: optax.GradientTransformation, rules: Rules) -> TrainState:
    """A fresh state at step 0; the parameters are copied, so that updates may donate them."""
    trained, _ = split(params, rules)
    copied = jax.tree.map(jnp.array, params)
    return TrainState(jnp.zeros((), jnp.int32), copied, optimizer.init(trained))


def make_update(
    loss: Loss, optimizer: optax.GradientTransformation, rules: Rules
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]:
    """The jitted update; it donates its state, so the old one must not be used again.

    Gradients exist for trained leaves only. The random key of an update is folded with the step,
    so a resumed run draws what an unbroken one would have drawn.

    Returns:
        update(state, batch, rng) -> (state, metrics with "loss" and "grad_norm").
    """

    def update(state: TrainState, batch: Batch, rng: jax.Array) -> tuple[TrainState, Metrics]:
        trained, frozen = split(state.params, rules)
        step_rng = jax.random.fold_in(rng, state.step)

        def loss_of(trained: dict[str, Any]) -> tuple[jax.Array, Metrics]:
            return loss(merge(trained, frozen), batch, step_rng)

        (value, metrics), grads = jax.value_and_grad(loss_of, has_aux=True)(trained)
        updates, opt_state = optimizer.update(grads, state.opt_state, trained)
        params = merge(optax.apply_updates(trained, updates), frozen)  # pyright: ignore[reportArgumentType]
        metrics |= {"loss": value, "grad_norm": optax.global_norm(grads)}
        return TrainState(state.step + 1, params, opt_state), metrics

    return jax.jit(update, donate_argnums=0)
