"""pi0 in JAX: the vision-language-action flow model, and reinforcement learning for it.

Importing this imports neither jax nor a simulator; each name is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0.dev0"

if TYPE_CHECKING:
    from pi0_jax import testing as testing
    from pi0_jax.data.demonstrations import Recorded as Recorded
    from pi0_jax.data.lerobot.folder import open_lerobot as open_lerobot
    from pi0_jax.env.base import Engine as Engine
    from pi0_jax.env.base import SimState as SimState
    from pi0_jax.env.base import Task as Task
    from pi0_jax.env.robosuite.libero import libero_tasks as libero_tasks
    from pi0_jax.env.robosuite.lift import LiftTask as LiftTask
    from pi0_jax.env.scripted import ScriptedTask as ScriptedTask
    from pi0_jax.env.stepping import SteppedSimulator as SteppedSimulator
    from pi0_jax.env.stepping import SteppedTask as SteppedTask
    from pi0_jax.env.workers.in_process import InProcess as InProcess
    from pi0_jax.env.workers.pool import SimulatorPool as SimulatorPool
    from pi0_jax.episode import Episode as Episode
    from pi0_jax.episode import RawObs as RawObs
    from pi0_jax.errors import InputError as InputError
    from pi0_jax.io.episodes import load_episodes as load_episodes
    from pi0_jax.io.episodes import save_episodes as save_episodes
    from pi0_jax.model.config import Pi0Config as Pi0Config
    from pi0_jax.model.pi0 import Pi0 as Pi0
    from pi0_jax.policy.folder import PolicyFolder as PolicyFolder
    from pi0_jax.policy.folder import load_policy as load_policy
    from pi0_jax.policy.folder import save_policy as save_policy
    from pi0_jax.policy.ongoing import Ongoing as Ongoing
    from pi0_jax.policy.policy import Policy as Policy
    from pi0_jax.policy.reference_fit import with_reference as with_reference
    from pi0_jax.policy.spec import PolicySpec as PolicySpec
    from pi0_jax.rl.config import RiptConfig as RiptConfig
    from pi0_jax.rl.init_states import GroupConfig as GroupConfig
    from pi0_jax.rl.loop import improved_policy as improved_policy
    from pi0_jax.rl.loop import run_iteration as run_iteration
    from pi0_jax.rl.loop import run_ript as run_ript
    from pi0_jax.rl.setup import create_loop as create_loop
    from pi0_jax.robot import Dimension as Dimension
    from pi0_jax.robot import Robot as Robot
    from pi0_jax.rollout.collect import collect as collect
    from pi0_jax.rollout.collect import plan_states as plan_states
    from pi0_jax.run.success import wilson as wilson
    from pi0_jax.training.fit import create_training as create_training
    from pi0_jax.training.optimizer import OptimizerConfig as OptimizerConfig
    from pi0_jax.training.step import SampledLoss as SampledLoss
    from pi0_jax.types import Batch as Batch
    from pi0_jax.types import Observation as Observation

# Name -> module, in the order in which a reader meets them.
_WHERE = {
    # Acting.
    "Policy": "policy.policy",
    "Ongoing": "policy.ongoing",
    "PolicyFolder": "policy.folder",
    "PolicySpec": "policy.spec",
    "load_policy": "policy.folder",
    "save_policy": "policy.folder",
    "with_reference": "policy.reference_fit",
    "RawObs": "episode",
    "Robot": "robot",
    "Dimension": "robot",
    "InputError": "errors",
    # The network.
    "Pi0": "model.pi0",
    "Pi0Config": "model.config",
    "Observation": "types",
    "Batch": "types",
    # Tasks, and what runs them.
    "Task": "env.base",
    "SimState": "env.base",
    "Engine": "env.base",
    "SteppedTask": "env.stepping",
    "SteppedSimulator": "env.stepping",
    "ScriptedTask": "env.scripted",
    "LiftTask": "env.robosuite.lift",
    "libero_tasks": "env.robosuite.libero",
    "InProcess": "env.workers.in_process",
    "SimulatorPool": "env.workers.pool",
    # Rollouts and data.
    "plan_states": "rollout.collect",
    "collect": "rollout.collect",
    "Episode": "episode",
    "load_episodes": "io.episodes",
    "save_episodes": "io.episodes",
    "Recorded": "data.demonstrations",
    "open_lerobot": "data.lerobot.folder",
    "wilson": "run.success",
    # Learning.
    "run_ript": "rl.loop",
    "create_loop": "rl.setup",
    "run_iteration": "rl.loop",
    "improved_policy": "rl.loop",
    "RiptConfig": "rl.config",
    "GroupConfig": "rl.init_states",
    "OptimizerConfig": "training.optimizer",
    "create_training": "training.fit",
    "SampledLoss": "training.step",
}
_MODULES = ("testing",)

__all__ = [*_WHERE, *_MODULES, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first asked for (PEP 562)."""
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, for tab completion."""
    return sorted(__all__)
