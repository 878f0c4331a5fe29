"""Gradients of the tiny model: each program is compiled once, whoever asks for it.

Compiling one takes a thousand times as long as running it. So tests take the same windows of
one size, 2 draws per window, and differ by the numbers in them.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from tiny import MODEL

from pi0_jax.model.pi0 import Pi0
from pi0_jax.rl.objectives.base import Objective
from pi0_jax.rl.objectives.cfg import Cfg
from pi0_jax.testing import batch
from pi0_jax.training.step import LossAndMetrics, whole_gradient
from pi0_jax.types import Batch

KEY = jax.random.key(5)
SAMPLES = 2
SIZE = 4
CFG = Cfg(alpha=0.7)


def windows() -> Batch:
    """Weights 0.25, 0.75, 1.25, 0.25; the unconditional branch has another, shorter prompt."""
    plain, other = batch(SIZE), batch(SIZE, seed=9).obs
    mask = np.arange(16) < 2
    return plain.replace(
        weight=plain.weight + np.float32(0.25),
        uncond_prompt=np.where(mask, other.prompt + 1, 0).astype(np.int32),
        uncond_prompt_mask=np.broadcast_to(mask, other.prompt.shape),
    )


@functools.cache
def _compiled(objective: Objective, branch_mode: str, model: Pi0) -> Callable[..., Any]:
    return jax.jit(whole_gradient(objective.loss(model, SAMPLES, branch_mode)))


def gradient(
    objective: Objective,
    params: dict[str, Any],
    windows: Batch,
    branch_mode: str = "embedding",
    trained: Iterable[str] | None = None,
    model: Pi0 = MODEL,
) -> tuple[LossAndMetrics, dict[str, Any]]:
    """((loss, metrics), gradient), of the branches `trained` of the parameters or of all."""
    names = params.keys() if trained is None else set(trained)
    parts = {name: params[name] for name in names}
    rest = {name: leaf for name, leaf in params.items() if name not in names}
    return _compiled(objective, branch_mode, model)(parts, rest, windows, KEY)
