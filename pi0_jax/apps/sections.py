"""Sections of a config that only the programs know, or that join the settings of two packages."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pi0_jax.data.lerobot.findings import check_allowed
from pi0_jax.data.lerobot.folder import LeRobotFolder
from pi0_jax.errors import check_choices
from pi0_jax.ranges import check_ranges
from pi0_jax.rl.config import RiptConfig
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.supervised import SupervisedConfig

# Which statistics a given checkpoint normalises with: its own, or those of new data.
OF_CHECKPOINT, OF_DEMONSTRATIONS = "checkpoint", "demonstrations"


@dataclass(frozen=True)
class InitConfig:
    """What training starts from.

    Attributes:
        checkpoint: a policy folder; "" for random parameters.
        statistics: statistics that a given checkpoint normalises with: "checkpoint", its own;
            "demonstrations", those of the data, for a checkpoint of another robot.
    """

    checkpoint: str = ""
    statistics: str = OF_CHECKPOINT

    def __post_init__(self) -> None:
        """Checks the choice.

        Raises:
            InputError: an unknown one.
        """
        check_choices("init", self, {"statistics": (OF_CHECKPOINT, OF_DEMONSTRATIONS)})


@dataclass(frozen=True, kw_only=True)
class KeptFrames:
    """Whether decoded frames of LeRobot folders are kept on disk.

    Attributes:
        cache: a folder that keeps decoded frames for this run and later ones; "" keeps none.
        cache_gb: room [GB] that the frames of a data set may take there.
    """

    cache: str = ""
    cache_gb: Annotated[float, "[0.001, 1e6]"] = 100.0

    def kept(self, folder: LeRobotFolder) -> LeRobotFolder:
        """The folder, with its decoded frames kept if the config says so."""
        if not self.cache:
            return folder
        return folder.cached(Path(self.cache).expanduser(), int(self.cache_gb * 1e9))


@dataclass(frozen=True, kw_only=True)
class DemonstrationsConfig(KeptFrames):
    """Demonstrations to imitate; besides, what `KeptFrames` says.

    Attributes:
        episodes: total number of scripted demonstrations to make; 0 for none.
        first_seed: seed of the first of them; every run seed has its own range.
        std_floor: smallest standard deviation of an action in the statistics.
        lerobot: a LeRobot folder to read instead of scripted ones; "" for none.
        allow: what may be strange about it (`data/lerobot/findings.py`), such as ("limits",).
    """

    episodes: Annotated[int, "[0, 1e9]"] = 0
    first_seed: Annotated[int, "[0, 1e18]"] = 0
    std_floor: Annotated[float, "[0, 100]"] = 0.1
    lerobot: str = ""
    allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks ranges and names.

        Raises:
            InputError: named field.
        """
        check_ranges("demonstrations", self)
        check_allowed("demonstrations.allow", self.allow)


@dataclass(frozen=True, kw_only=True)
class SupervisedSettings(SupervisedConfig):
    """`config.sft`."""

    optimizer: OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class RiptSettings(RiptConfig):
    """`config.rl`, or a baseline: the same with some keys replaced."""

    optimizer: OptimizerConfig

    def __post_init__(self) -> None:
        """Checks all of it.

        Raises:
            InputError: named field.
        """
        super().__post_init__()
        # Here, because only this section has both: rollouts may need the moving average.
        self.check_optimizer(self.optimizer)


def without_rollouts(sft: SupervisedSettings, ript: RiptSettings) -> SupervisedSettings:
    """The supervised training of a baseline without rollouts: as many windows, steps and draws.

    Args:
        sft: what it imitates with, as to augmentation, logging and rules of the optimizer.
        ript: the baseline; its updates go to the demonstrations, at its rate, schedule and preset.
    """
    return replace(
        sft,
        steps=ript.iterations * ript.updates_per_iteration,
        batch_size=ript.batch_size,
        time_samples=ript.time_samples,
        optimizer=replace(ript.optimizer, rules=sft.optimizer.rules),
    )
