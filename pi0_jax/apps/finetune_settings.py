"""Every setting of a fine-tuning on LeRobot folders, which needs no simulator."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from ml_collections import ConfigDict

from pi0_jax.apps.old_keys import check_old_keys
from pi0_jax.apps.sections import (
    OF_CHECKPOINT,
    OF_DEMONSTRATIONS,
    KeptFrames,
    SupervisedSettings,
)
from pi0_jax.data.held_out import HeldOutConfig
from pi0_jax.data.lerobot.findings import check_allowed
from pi0_jax.data.mixture import ALIKE, WORTHS
from pi0_jax.data.stats import STD_FLOOR
from pi0_jax.errors import InputError, check_choices
from pi0_jax.plain_values import build, defaults
from pi0_jax.ranges import check_ranges
from pi0_jax.rl.objectives.cfg import Cfg
from pi0_jax.run.session import RunSettings
from pi0_jax.training.checkpoint import CheckpointsConfig
from pi0_jax.training.hardware import Hardware


@dataclass(frozen=True)
class FineTuneInit:
    """What a fine-tuning starts from.

    Attributes:
        checkpoint: a policy folder; "" for random parameters of `config.model`.
        statistics: with which it normalises: "demonstrations", those of the data; "checkpoint", the
            policy's own, to go on with data like those that it was trained with; or the path of a
            norm_stats.json that `python -m pi0_jax.data.stats` wrote for these data.
    """

    checkpoint: str = ""
    statistics: str = OF_DEMONSTRATIONS

    def __post_init__(self) -> None:
        """Checks the choice.

        Raises:
            InputError: an unknown word, or the statistics of no checkpoint.
        """
        words = (OF_CHECKPOINT, OF_DEMONSTRATIONS)
        if self.statistics not in words and not self.statistics.endswith(".json"):
            raise InputError(
                f"init.statistics must be one of {', '.join(words)} or a .json file, got "
                f"{self.statistics!r}"
            )
        if self.statistics == OF_CHECKPOINT and not self.checkpoint:
            raise InputError("init.statistics is 'checkpoint', and init.checkpoint names none")


@dataclass(frozen=True, kw_only=True)
class FoldersConfig(KeptFrames):
    """The LeRobot folders to learn from; besides, what `KeptFrames` says.

    Attributes:
        lerobot: one folder.
        mixture: several in its place, as (folder, share) pairs: how often each is drawn from.
        cameras: the folders' cameras in the order of the robot's; () to find them by name.
        balance_tasks: draw every task of a folder equally often, instead of every step.
        weights: "none", every episode is imitated alike; "success" or "advantage", that column of
            the folder says what an episode is worth: both branches of guidance are trained.
        allow: what may be strange about the data (`data/lerobot/findings.py`).
        std_floor: smallest standard deviation of an action in the statistics, in its unit.
    """

    lerobot: str = ""
    mixture: tuple[tuple[str, float], ...] = ()
    cameras: tuple[str, ...] = ()
    balance_tasks: bool = False
    weights: str = ALIKE
    allow: tuple[str, ...] = ()
    std_floor: Annotated[float, "[0, 100]"] = STD_FLOOR

    def __post_init__(self) -> None:
        """Checks ranges, names and pairs.

        Raises:
            InputError: named field.
        """
        check_ranges("demonstrations", self)
        check_choices("demonstrations", self, {"weights": WORTHS})
        check_allowed("demonstrations.allow", self.allow)
        for pair in self.mixture:
            if not _is_share(pair):
                raise InputError(
                    "demonstrations.mixture must be pairs such as (('FOLDER', 2.0),) with shares "
                    f"above 0, and {pair!r} is none"
                )
        if bool(self.lerobot) == bool(self.mixture):
            raise InputError(
                "expected one of config.demonstrations.lerobot, a folder, and .mixture, several "
                f"with their shares; got {'both' if self.lerobot else 'none'}"
            )

    @property
    def shares(self) -> tuple[tuple[str, float], ...]:
        """All folders with their shares."""
        return self.mixture or ((self.lerobot, 1.0),)


def _is_share(pair: object) -> bool:
    if not isinstance(pair, tuple) or len(pair) != 2:
        return False
    folder, share = pair
    number = isinstance(share, int | float) and not isinstance(share, bool)
    return isinstance(folder, str) and bool(folder) and number and 0 < share < float("inf")


@dataclass(frozen=True, kw_only=True)
class FineTuneSettings(RunSettings):
    """A whole config.

    Attributes:
        robot: of `robots/`, the path of a .json file, or "lerobot": as the folder says.
        model: preset of a policy that is trained from scratch (`model/config.py`).
        execute_steps: actions executed of each chunk; 0 for the number in the given checkpoint, or
            for all actions if training starts from random parameters.
        init: what it starts from.
        demonstrations: what it learns from.
        held_out: what it is judged on, at every checkpoint: `sft.save_every`.
        sft: the training.
        cfg: the loss of both branches, where `demonstrations.weights` asks for it.
        hardware: layout of an update on the devices, which changes no result.
        checkpoints: how many checkpoints are kept.
        compilation_cache: a folder that keeps compiled programs; "" keeps none.
    """

    robot: str
    model: str = "pi0"
    execute_steps: Annotated[int, "[0, 1e4]"] = 0
    init: FineTuneInit = field(default_factory=FineTuneInit)
    demonstrations: FoldersConfig
    held_out: HeldOutConfig = field(default_factory=HeldOutConfig)
    sft: SupervisedSettings
    cfg: Cfg = field(default_factory=Cfg)
    hardware: Hardware = field(default_factory=Hardware)
    checkpoints: CheckpointsConfig = field(default_factory=CheckpointsConfig)
    compilation_cache: str = ""

    def __post_init__(self) -> None:
        """Checks that something is trained, and with what is set.

        Raises:
            InputError: no optimizer step, or settings of a loss that is not used.
        """
        super().__post_init__()
        if not self.sft.steps:
            raise InputError("config.sft.steps must be at least 1 in a fine-tuning, got 0")
        if self.cfg != Cfg() and self.demonstrations.weights == ALIKE:
            raise InputError(
                f"config.cfg is set ({self.cfg}), but with config.demonstrations.weights {ALIKE!r} "
                "one branch is trained: set the weights, or leave config.cfg at its default"
            )


def fine_tune_config(robot: str) -> ConfigDict:
    """All defaults, for a config to start from; a key without a default is still to be set."""
    return ConfigDict(defaults(FineTuneSettings) | {"robot": robot})


def is_fine_tuning(config: Mapping[str, Any] | ConfigDict) -> bool:
    """Whether a config is one of these: it names a robot where others name a suite."""
    return "robot" in config


def fine_tune_settings(config: ConfigDict) -> FineTuneSettings:
    """The settings of a config.

    Raises:
        InputError: a key that is unknown, old or missing, or a value that cannot be.
    """
    values = config.to_dict()
    check_old_keys(values)
    try:
        return build("", FineTuneSettings, values)
    except InputError as error:
        # RL has this section too, and it names itself as there.
        raise InputError(str(error).replace("rl.cfg.", "config.cfg.")) from error
