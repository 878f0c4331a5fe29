"""The training state and the one jitted update, for any loss(params, batch, rng)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import flax.struct
import flax.traverse_util
import jax
import jax.numpy as jnp
import optax

from pi0_jax.errors import InputError
from pi0_jax.model.pi0 import COND_EMBED
from pi0_jax.training.optimizer import Row, Rules, multiplier
from pi0_jax.types import Batch

ACTING = "acting"
"""Branch of the parameters that a loss gets, if it reads what acted in the newest rollouts."""

OWN = "loss"
"""Branch of parameters that a loss trains beside the network's; no policy has them."""

Params = Any
Metrics = dict[str, jax.Array]
LossAndMetrics = tuple[jax.Array, Metrics]
Loss = Callable[[Params, Batch, jax.Array], LossAndMetrics]
Gradient = Callable[[dict[str, Any], dict[str, Any], Batch, jax.Array], tuple[LossAndMetrics, Any]]
"""(trained, frozen, batch, rng) -> ((loss, metrics), gradients of the trained leaves)."""


@dataclass(frozen=True)
class SampledLoss:
    """A loss in two parts: random numbers for the whole batch, then its value given them.

    Between the two the batch may be cut into micro-batches, and each window keeps its numbers.

    Attributes:
        sample: (rng, batch) -> tree of random arrays [b, ...].
        evaluate: (params, batch, sampled arrays) -> (loss, metrics), each a mean over the real
            action steps of the batch.
        reads_acting: whether `evaluate` reads the parameters that acted (`acting_params`).
        apart: a row that a term of its own trains. It is clipped by itself, so that the size of its
            gradient has no effect on the step of all other parameters; None for no such row.
        own: first values of parameters that the loss trains beside the network's, which
            `evaluate` finds under `OWN`; None for none. They are float32 arrays.
    """

    sample: Callable[[jax.Array, Batch], Any]
    evaluate: Callable[[Params, Batch, Any], LossAndMetrics]
    reads_acting: bool = False
    apart: Row | None = None
    own: Params | None = None

    def __call__(self, params: Params, batch: Batch, rng: jax.Array) -> LossAndMetrics:
        """The loss of a whole batch."""
        return self.evaluate(params, batch, self.sample(rng, batch))


@flax.struct.dataclass
class TrainState:
    """All that training carries from one update to the next.

    Attributes:
        step: int32 scalar, number of updates done.
        params: whole parameter tree.
        opt_state: optimizer state; it has trained leaves only.
        ema: flat moving average of the trained leaves; None if none is kept.
        acting: flat copy of the trained leaves as they acted in the newest rollouts, for a loss
            that compares with them; None if no loss reads it.
    """

    step: jax.Array
    params: Params
    opt_state: Any
    ema: Any = None
    acting: Any = None

    def averaged(self) -> Params:
        """The parameters to act with: the moving average if one is kept."""
        if self.ema is None:
            return self.params
        # Frozen leaves are equal to their average, so the average does not hold them.
        flat = flax.traverse_util.flatten_dict(self.params, sep="/")
        return merge(self.ema, {path: flat[path] for path in flat.keys() - self.ema.keys()})

    def acting_leaves(self) -> dict[str, Any]:
        """The acting parameters as a loss finds them: path under `acting` -> leaf."""
        return {f"{ACTING}/{path}": leaf for path, leaf in (self.acting or {}).items()}

    def with_acting(self, averaged: bool) -> "TrainState":
        """The state with its newest parameters as the acting ones; unchanged if it keeps none.

        Args:
            averaged: take their moving average, which must be kept.
        """
        if self.acting is None:
            return self
        flat = self.ema if averaged else flax.traverse_util.flatten_dict(self.params, sep="/")
        # Copies: two leaves of a donated state must not share a buffer.
        return replace(self, acting={path: jnp.array(flat[path]) for path in self.acting})


def split(params: Params, rules: Rules) -> tuple[dict[str, Any], dict[str, Any]]:
    """Trained and frozen leaves, each flat: slash-joined path -> leaf."""
    # Flat, because rules match paths, and so that `merge` is a union of two dictionaries.
    flat = flax.traverse_util.flatten_dict(params, sep="/")
    trained = {path: leaf for path, leaf in flat.items() if multiplier(path, rules)}
    return trained, {path: leaf for path, leaf in flat.items() if path not in trained}


def merge(trained: dict[str, Any], frozen: dict[str, Any]) -> Params:
    """Inverse of `split`."""
    return flax.traverse_util.unflatten_dict(trained | frozen, sep="/")


def without_own(params: Params) -> Params:
    """The network's parameters, without those of a loss."""
    return {name: part for name, part in params.items() if name != OWN}


def acting_params(params: Params) -> Params:
    """The whole tree that acted, from the parameters that a loss with `reads_acting` gets.

    Raises:
        InputError: there are none.
    """
    if ACTING not in params:
        raise InputError(
            "this loss compares with the parameters that acted, and params['acting'] is missing: "
            "make the state with training/fit.py, or put a flat copy of the trained leaves there"
        )
    newest = {name: part for name, part in params.items() if name != ACTING}
    flat, acting = (flax.traverse_util.flatten_dict(x, sep="/") for x in (newest, params[ACTING]))
    # Frozen leaves acted as they are, so there is no copy of them.
    return merge(acting, {path: flat[path] for path in flat.keys() - acting.keys()})


def init_state(
    params: Params,
    optimizer: optax.GradientTransformation,
    rules: Rules,
    frozen_dtype: str | None = None,
    ema: bool = False,
    acting: bool = False,
) -> TrainState:
    """A fresh state at step 0; the parameters are copied, so that updates may donate them.

    Trained leaves become float32 master weights whatever they were: an update of a part in a
    thousand is lost in bfloat16.

    Args:
        params: whole parameter tree.
        optimizer: optimizer of the trained leaves.
        rules: learning-rate rules, which decide the trained leaves.
        frozen_dtype: dtype of frozen leaves; None keeps it.
        ema: keep a moving average.
        acting: keep a copy of the parameters that act.
    """
    trained, frozen = split(jax.tree.map(jnp.array, params), rules)
    trained = {path: leaf.astype(jnp.float32) for path, leaf in trained.items()}
    if frozen_dtype:
        frozen = {path: leaf.astype(frozen_dtype) for path, leaf in frozen.items()}
    # Copies: two leaves of a donated state must not share a buffer.
    copies = [jax.tree.map(jnp.array, trained) if kept else None for kept in (ema, acting)]
    step = jnp.zeros((), jnp.int32)
    return TrainState(step, merge(trained, frozen), optimizer.init(trained), *copies)


def whole_gradient(loss: Loss) -> Gradient:
    """The gradient of a batch in one pass."""

    def gradient(
        trained: dict[str, Any], frozen: dict[str, Any], batch: Batch, rng: jax.Array
    ) -> tuple[LossAndMetrics, Any]:
        """Value, metrics and gradient of the whole batch at once."""

        def loss_of(trained: dict[str, Any]) -> LossAndMetrics:
            """The loss as a function of the trained leaves."""
            return loss(merge(trained, frozen), batch, rng)

        # By the trained leaves alone: frozen ones are constants, so no gradient of them is computed
        # or allocated. Gradients have the shapes of their leaves, such as [l, w, m].
        return jax.value_and_grad(loss_of, has_aux=True)(trained)

    return gradient


def norms(grads: dict[str, jax.Array]) -> Metrics:
    """Norms of a flat gradient: "grad_norm", before it is clipped.

    If the condition embedding is trained together with other leaves, also
    "grad_norm/cond_embed" and "grad_norm/model".
    """
    found = {"grad_norm": optax.tree.norm(grads)}
    # cond_embed [2, w] is small and has a rate of its own: in one norm the rest would hide it.
    model = {path: leaf for path, leaf in grads.items() if path != COND_EMBED}
    if model and len(model) < len(grads):
        found["grad_norm/cond_embed"] = jnp.linalg.norm(grads[COND_EMBED])
        found["grad_norm/model"] = optax.tree.norm(model)
    return found


def make_step(
    gradient: Gradient,
    optimizer: optax.GradientTransformation,
    rules: Rules,
    ema_decay: float = 0.0,
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]:
    """The update as a pure function, to be compiled for one device or for a mesh.

    Gradients exist for trained leaves only. The random key of an update is folded with the step,
    so a resumed run draws what an unbroken one would have drawn.

    Args:
        gradient: function that gives loss, metrics and gradients of a batch.
        optimizer: optimizer of the trained leaves.
        rules: learning-rate rules, which decide the trained leaves.
        ema_decay: decay of the moving average per step; used if the state has one.

    Returns:
        update(state, batch, rng) -> (state, metrics with "loss" and the norms of `norms`).
    """

    def update(state: TrainState, batch: Batch, rng: jax.Array) -> tuple[TrainState, Metrics]:
        """One optimizer step, from a batch with actions float32[b, H, d]."""
        trained, frozen = split(state.params, rules)
        # Folded, not split from the last key: the state need not store a key to be resumed.
        step_rng = jax.random.fold_in(rng, state.step)
        # The acting parameters are constants of the loss, as frozen leaves are.
        fixed = frozen | state.acting_leaves()
        (value, metrics), grads = gradient(trained, fixed, batch, step_rng)
        # The optimizer never sees frozen leaves, so it holds no moments and no decay for them.
        updates, opt_state = optimizer.update(grads, state.opt_state, trained)
        trained: Any = optax.apply_updates(trained, updates)
        ema = state.ema
        if ema is not None:
            # ema <- decay * ema + (1 - decay) * trained, after the step.
            ema = optax.incremental_update(trained, ema, 1 - ema_decay)
        metrics |= {"loss": value, **norms(grads)}
        params = merge(trained, frozen)
        return TrainState(state.step + 1, params, opt_state, ema, state.acting), metrics

    return update


def make_update(
    loss: Loss, optimizer: optax.GradientTransformation, rules: Rules
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]:
    """The jitted update of whole batches on one device.

    It donates its state, so the old one must not be used again: the new state is written into its
    buffers, and the device holds parameters and moments once, not twice.
    """
    return jax.jit(make_step(whole_gradient(loss), optimizer, rules), donate_argnums=0)
