"""Every setting of train.py and eval.py: one frozen value, parsed once from a config.

A key's default stands at its field, here or in the dataclass of its section; a config states
what differs from it.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ml_collections import ConfigDict

from pi0_jax.apps.old_keys import check_old_keys
from pi0_jax.apps.sections import (
    DemonstrationsConfig,
    InitConfig,
    RiptSettings,
    SupervisedSettings,
)
from pi0_jax.env.suite import task_options
from pi0_jax.errors import InputError
from pi0_jax.plain_values import build, defaults, nearest, replaced
from pi0_jax.rl.config import check_unused_objectives
from pi0_jax.rl.init_states import FRESH, VALIDATION
from pi0_jax.rollout.evaluate import EvalConfig
from pi0_jax.run.folder import RIPT
from pi0_jax.run.session import RunSettings
from pi0_jax.training.hardware import Hardware


@dataclass(frozen=True, kw_only=True)
class EvalSettings(RunSettings):
    """What an evaluation needs of a config.

    Attributes:
        suite: name of the tasks (`env/suite.py`).
        task: their options, and under "demonstrator" those of their demonstrator.
        eval: the protocol.
        compilation_cache: a folder in which compiled programs outlive the process; "" compiles
            anew.
    """

    suite: str
    task: Mapping[str, Any] = field(default_factory=dict)
    eval: EvalConfig
    compilation_cache: str = ""


@dataclass(frozen=True, kw_only=True)
class TrainSettings(EvalSettings):
    """A whole config.

    Attributes:
        model: preset of a policy that is trained from scratch (`model/config.py`).
        execute_steps: actions executed of each chunk; 0 for as many as the given checkpoint
            says, or all of them where there is none.
        init: what training starts from.
        demonstrations: what is imitated.
        sft: supervised training.
        rl: RIPT after it.
        baselines: methods beside RIPT by name; a config states what of `rl` each replaces.
        hardware: layout of an update, which changes no result.
    """

    model: str
    execute_steps: int = 0
    init: InitConfig = field(default_factory=InitConfig)
    demonstrations: DemonstrationsConfig = field(default_factory=DemonstrationsConfig)
    sft: SupervisedSettings
    rl: RiptSettings
    baselines: Mapping[str, RiptSettings] = field(default_factory=dict)
    hardware: Hardware = field(default_factory=Hardware)

    def methods(self, tasks: int) -> dict[str, RiptSettings]:
        """The baselines and then RIPT by name, their initial states by seed and number.

        Args:
            tasks: number of tasks of the suite.

        Raises:
            InputError: demonstrations that have no simulator state to start from.
        """
        named = {**self.baselines, RIPT: self.rl}
        return {name: self._with_states(method, tasks) for name, method in named.items()}

    def _with_states(self, method: RiptSettings, tasks: int) -> RiptSettings:
        """The initial states that `groups.states` stands for."""
        groups = method.groups
        if groups.states == FRESH:
            return method
        if groups.states == VALIDATION:
            first, number = self.eval.first_seed, self.eval.episodes
        else:
            first, number = self.demonstrations.first_seed, self.demonstrations.episodes // tasks
        if not number:
            raise InputError(
                "config.rl.groups.states is 'demonstrations', but there are no scripted ones: a "
                "LeRobot folder holds no simulator states; use 'fresh'"
            )
        groups = dataclasses.replace(groups, first_seed=first, num_states=number)
        return dataclasses.replace(method, groups=groups)


def train_config(suite: str) -> ConfigDict:
    """Every default, for a config to start from; a key without a default is yet to be set.

    Args:
        suite: whose options `config.task` has.

    Raises:
        InputError: unknown suite.
    """
    return ConfigDict(defaults(TrainSettings) | {"suite": suite, "task": task_options(suite)})


def train_settings(config: ConfigDict) -> TrainSettings:
    """The settings of a config.

    Raises:
        InputError: a key that is unknown, old or missing, or a value that cannot be.
    """
    values = config.to_dict()
    check_old_keys(values)
    rl = values.get("rl", {})
    baselines = {
        name: build("rl", RiptSettings, replaced(rl, changes))
        for name, changes in values.get("baselines", {}).items()
    }
    settings = build("", TrainSettings, {**values, "baselines": baselines})
    check_unused_objectives([*settings.baselines.values(), settings.rl])
    return settings


def eval_settings(config: ConfigDict) -> EvalSettings:
    """What an evaluation needs of a config; sections that only training has are not looked into.

    Raises:
        InputError: as `train_settings`.
    """
    values = config.to_dict()
    check_old_keys(values)
    own = {entry.name for entry in dataclasses.fields(EvalSettings)}
    known = [entry.name for entry in dataclasses.fields(TrainSettings)]
    if strange := sorted(values.keys() - set(known)):
        near = nearest(strange[0], known)
        raise InputError(f"unknown config key {strange[0]}; the nearest valid key is {near}")
    return build("", EvalSettings, {name: values[name] for name in values.keys() & own})
