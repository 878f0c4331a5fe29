"""Every setting of pi0-train and pi0-eval: one frozen value, parsed once from a config.

The default of a key is that of its field, here or in the dataclass of its section; a config states
only what differs from it.
"""

import dataclasses
import re
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
from pi0_jax.plain_values import build, check_section, defaults, nearest, replaced
from pi0_jax.rl.config import check_unused_objectives
from pi0_jax.rl.init_states import FRESH, VALIDATION
from pi0_jax.rl.loop_store import LoopCheckpointsConfig
from pi0_jax.rollout.evaluate import EvalConfig
from pi0_jax.run.methods import BASE, DEMONSTRATIONS, EVALUATIONS, RIPT
from pi0_jax.run.session import SimulatedSettings
from pi0_jax.training.hardware import Hardware

# What lies beside the baselines in episodes/, and their checkpoints.
_PARTS = (BASE, RIPT, DEMONSTRATIONS, EVALUATIONS)


@dataclass(frozen=True, kw_only=True)
class EvalSettings(SimulatedSettings):
    """The part of a config that an evaluation needs.

    Attributes:
        suite: name of the set of tasks (`env/suite.py`).
        task: options of the tasks, and under "demonstrator" those of their demonstrator.
        eval: protocol of the evaluation.
        compilation_cache: a folder that keeps compiled programs for later processes; "" keeps
            none.
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
        execute_steps: actions executed of each chunk; 0 for the number in the given checkpoint, or
            for all actions if training starts from random parameters.
        init: what training starts from.
        demonstrations: demonstrations to imitate.
        sft: supervised training.
        rl: RIPT, after supervised training.
        baselines: other methods by name; in a config each states only the keys of `rl` that it
            replaces.
        hardware: layout of an update on the devices, which changes no result.
        checkpoints: how many checkpoints are made and kept.
        keep_reference: RUN/policy carries the policy that RL started from as its reference, so
            that guidance can lead away from it wherever the folder goes.
    """

    model: str
    execute_steps: int = 0
    init: InitConfig = field(default_factory=InitConfig)
    demonstrations: DemonstrationsConfig = field(default_factory=DemonstrationsConfig)
    sft: SupervisedSettings
    rl: RiptSettings
    baselines: Mapping[str, RiptSettings] = field(default_factory=dict)
    hardware: Hardware = field(default_factory=Hardware)
    checkpoints: LoopCheckpointsConfig = field(default_factory=LoopCheckpointsConfig)
    keep_reference: bool = False

    def __post_init__(self) -> None:
        """Checks that RL has rollouts, and that every baseline's name can name its folder.

        Raises:
            InputError: RL without rollouts; a name that another part of the run has, or that is no
                file name.
        """
        super().__post_init__()
        if self.rl.iterations and not self.rl.groups.groups_per_iteration:
            raise InputError(
                "config.rl.groups.groups_per_iteration is 0, so RL would have no rollouts: set it, "
                "or config.rl.iterations to 0; a baseline without rollouts has it at 0 in "
                "config.baselines"
            )
        for name in self.baselines:
            if name in _PARTS or not re.fullmatch(r"\w[\w-]{0,99}", name):
                raise InputError(
                    f"config.baselines.{name}: a baseline's name is of letters, digits, '_' and "
                    f"'-', and none of {', '.join(_PARTS)}, which are parts of every run"
                )
            self._check_rules(name)

    def _check_rules(self, name: str) -> None:
        """Checks that a baseline has no rules of its own that nothing reads.

        Raises:
            InputError: it has no rollouts, and so the rules of `sft`.
        """
        baseline = self.baselines[name]
        rules, common = baseline.optimizer.rules, self.rl.optimizer.rules
        if not baseline.groups.groups_per_iteration and rules != common:
            raise InputError(
                f"config.baselines.{name}.optimizer.rules is set, but a baseline without rollouts "
                "has those of config.sft.optimizer.rules: leave it out"
            )

    def methods(self, tasks: int) -> dict[str, RiptSettings]:
        """The baselines and then RIPT, by name, with the seed and number of their initial states.

        Args:
            tasks: number of tasks of the suite.

        Raises:
            InputError: initial states of demonstrations are wanted, but these have none.
        """
        # RIPT last: its policy is the run's result, and a baseline must not replace it.
        named = {**self.baselines, RIPT: self.rl}
        return {name: self._with_states(method, tasks) for name, method in named.items()}

    def _with_states(self, method: RiptSettings, tasks: int) -> RiptSettings:
        """The method with `groups.states` replaced by the seeds that it names."""
        groups = method.groups
        if groups.states == FRESH:
            return method
        if groups.states == VALIDATION:
            first, number = self.eval.first_seed, self.eval.episodes
        else:
            # Tasks took turns in the demonstrations: each has an equal part of the episodes.
            first, number = self.demonstrations.first_seed, self.demonstrations.episodes // tasks
        if not number:
            raise InputError(
                "config.rl.groups.states is 'demonstrations', but there are no scripted ones: a "
                "LeRobot folder holds no simulator states; use 'fresh'"
            )
        try:
            groups = dataclasses.replace(groups, first_seed=first, num_states=number)
        except InputError as error:
            source = "eval" if groups.states == VALIDATION else "demonstrations"
            raise InputError(
                f"config.rl.groups.states is {groups.states!r}, and config.{source}.episodes gives "
                f"{number} per task: {error}"
            ) from error
        return dataclasses.replace(method, groups=groups)


def train_config(suite: str) -> ConfigDict:
    """All defaults, for a config to start from; a key without a default is still to be set.

    Args:
        suite: name of the set of tasks, whose options `config.task` then has.

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
    rl, others = (_section(values, key) for key in ("rl", "baselines"))
    # A baseline is `rl` with some keys replaced, so it is merged before it is checked.
    baselines = {
        name: build("rl", RiptSettings, replaced(rl, _section(others, name, "baselines.")))
        for name in others
    }
    settings = build("", TrainSettings, {**values, "baselines": baselines})
    # Over all methods together: the section of an objective may serve a baseline alone.
    check_unused_objectives([*settings.baselines.values(), settings.rl])
    return settings


def _section(values: Mapping[str, Any], key: str, above: str = "") -> Mapping[str, Any]:
    """A section of a config; empty where there is none."""
    section = values.get(key, {})
    check_section(f"{above}{key}", section)
    return section


def eval_settings(config: ConfigDict) -> EvalSettings:
    """The part of a config that an evaluation needs; sections for training only are not checked.

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
