"""The scripted demonstrator of LIBERO's tasks, which reads the simulator's state."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from pi0_jax.env.demonstrator import DemonstratorConfig
from pi0_jax.env.robosuite.panda import PandaArm
from pi0_jax.env.robosuite.skills.manner import Manner
from pi0_jax.env.robosuite.skills.plan import fulfil
from pi0_jax.env.robosuite.skills.scene import Scene


def actions(
    env: Any, arm: PandaArm, style: DemonstratorConfig, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Actions float64[7] that do the task of LIBERO's environment `env`, each from its present."""
    return fulfil(Scene(env, arm), Manner.drawn(style, rng))
