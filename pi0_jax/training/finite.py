"""Whether training has diverged: one pass over the state, on the device where it is."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp

from pi0_jax.errors import InputError
from pi0_jax.hosts import talk
from pi0_jax.training import checkpoint
from pi0_jax.training.step import TrainState


class DivergedError(InputError):
    """The loss, a parameter or the optimizer's state is no longer a finite number."""


@jax.jit
def all_finite(state: TrainState) -> jax.Array:
    """Whether every number of parameters and optimizer is finite: bool[].

    On a mesh each device looks at its own part.
    """
    leaves = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.inexact)]
    # A sum per leaf would overflow in bfloat16; XLA fuses the test into the reduction.
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()


def check_finite(state: TrainState) -> None:
    """Checks a state before it is stored as a checkpoint, and so before an older one may go.

    Raises:
        DivergedError: a number is not finite.
    """
    if not all_finite(state):
        raise DivergedError(f"parameters or optimizer are not finite after step {int(state.step)}")


@contextlib.contextmanager
def told_where_to_go_back(folder: Path, before: Path | None = None) -> Iterator[None]:
    """Adds to a `DivergedError` from which checkpoint training can go on, and how.

    Args:
        folder: the checkpoints of the method that is trained.
        before: those of the policy that it starts from, the last of which is a beginning too.

    Raises:
        DivergedError: with what to do.
    """
    try:
        yield
    except DivergedError as error:
        good = talk.first(lambda: _newest(folder) or (_newest(before) if before else ""))
        todo = (
            f"go on from the last good checkpoint, {good}, at a lower rate: "
            f"add --resume --from {Path(good).name} and the keys to change, such as "
            "--config.rl.optimizer.learning_rate or --config.sft.optimizer.learning_rate"
            if good
            else "there is no checkpoint yet: start a new run at a lower rate"
        )
        raise DivergedError(f"training diverged: {error}; {todo}") from error


def _newest(folder: Path) -> str:
    """Path of the newest checkpoint, as a text that hosts can tell each other; "" for none."""
    good = checkpoint.steps(folder)
    return str(folder / str(good[-1])) if good else ""
