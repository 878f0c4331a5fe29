"""What a policy is besides its parameters and statistics: the config.json of a policy folder.

Files of versions 1 and 2 are read too.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pi0_jax.data.action_space import AS_THE_ROBOT, ActionSpace
from pi0_jax.data.branches import BRANCH_MODES, EMBEDDING
from pi0_jax.data.normalize import load_norm_stats
from pi0_jax.data.tokenizer import TOKENIZERS
from pi0_jax.errors import InputError, check_choices
from pi0_jax.json_file import read_object
from pi0_jax.model.config import Pi0Config
from pi0_jax.plain_values import build
from pi0_jax.robot import Robot, numbered

# Version 1 (pi0_jax 0.1) had cameras and a number of actions instead of a robot, and with version 2
# a number of relative actions (`delta_dims`) instead of a mask.
FORMAT_VERSION = 3
# Entries that version 3 did not have from its beginning.
_LATER = ("branch_mode", "padded_state_text")

_MOST_ACTIONS = 1000  # in a folder of before; no robot has more


@dataclass(frozen=True)
class PolicySpec:
    """Everything needed to use a parameter tree, except the tree and its statistics.

    Attributes:
        model: architecture.
        robot: the robot with whose cameras, states and actions the policy was trained.
        execute_steps: number of actions of each chunk that are executed before the policy gets the
            next observation.
        tokenizer: "bytes" or "paligemma".
        action_space: what lies between the robot's states and actions and their statistics.
        asset_id: name of the statistics' folder under assets/.
        quantile: normalise by quantiles instead of z-scores.
        branch_mode: how the branches of guidance differ (`data/branches.py`).
        state_in_prompt: the prompt holds the state as text, which is how most pi0.5 read it; of
            openpi's, `pi05_libero` reads none.
        padded_state_text: that text is zero-padded to the network's width, as in lerobot 0.4.
    """

    model: Pi0Config
    robot: Robot
    execute_steps: int
    tokenizer: str = "paligemma"
    action_space: ActionSpace = AS_THE_ROBOT
    asset_id: str = "default"
    quantile: bool = False
    branch_mode: str = EMBEDDING
    state_in_prompt: bool = False
    padded_state_text: bool = False

    def __post_init__(self) -> None:
        """Checks that chunks, actions and states fit the model.

        Raises:
            InputError: a value does not fit; the message names it.
        """
        check_execute_steps("execute_steps", self.execute_steps, self.model.action_horizon)
        # States and actions are padded to the model's `action_dim`: less fits, more does not.
        for kind, width in (("actions", self.robot.actions), ("values of state", self.robot.state)):
            if len(width) > self.model.action_dim:
                raise InputError(
                    f"the robot has {len(width)} {kind}, the model takes {self.model.action_dim}"
                )
        if self.padded_state_text and not self.state_in_prompt:
            raise InputError("padded_state_text needs state_in_prompt: there is no text to pad")
        self.action_space.check_robot(self.robot)
        check_choices("policy", self, {"branch_mode": BRANCH_MODES, "tokenizer": TOKENIZERS})
        if not is_asset_id(self.asset_id):
            raise InputError(f"asset_id must be a name such as org/robot, got {self.asset_id!r}")


def check_execute_steps(name: str, steps: int, horizon: int) -> None:
    """Checks a number of actions that are executed of each chunk.

    Args:
        name: of the setting, for the message.
        steps: the number.
        horizon: actions of a chunk.

    Raises:
        InputError: a chunk has not as many, or it is none.
    """
    if not 1 <= steps <= horizon:
        raise InputError(f"{name} must be between 1 and the action horizon {horizon}, got {steps}")


def is_asset_id(text: str) -> bool:
    """Whether a name can be that of a folder below assets/, which it must not leave or hide in."""
    return all(part and not part.startswith(".") for part in text.split("/"))


def load_spec(folder: Path) -> PolicySpec:
    """Reads the config.json of a policy folder.

    Raises:
        InputError: there is no such file, or it is of another kind or version.
    """
    path = folder / "config.json"
    try:
        values = read_object(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected a policy folder") from error
    if "format_version" not in values and (folder / "policy" / "config.json").is_file():
        raise InputError(f"{folder}: a run folder; its policy is {folder / 'policy'}")
    try:
        return _spec(values, folder)
    except KeyError as error:
        raise InputError(
            f"{path}: expected a policy folder's config.json, {error} is missing"
        ) from error
    except InputError as error:
        raise InputError(f"{path}: expected a policy folder's config.json: {error}") from error


def _spec(values: dict[str, Any], folder: Path) -> PolicySpec:
    """The spec that a config.json of any version describes.

    Raises:
        KeyError, InputError: an entry is missing, unknown or wrong.
    """
    version = values.pop("format_version")
    if version not in (1, 2, FORMAT_VERSION):
        raise InputError(f"expected format {FORMAT_VERSION}, got {version!r}")
    if version == FORMAT_VERSION:
        _check_complete(values)
    if version == 1:
        values = _from_version_1(values, folder)
    if version < FORMAT_VERSION:
        values = _from_version_2(values)
    return build("", PolicySpec, values)


def _check_complete(values: dict[str, Any]) -> None:
    """Checks that a file of this version has all entries: a default would be another policy.

    Raises:
        KeyError: it lacks one.
    """
    model = values.get("model")
    for part, kind, there in (("", PolicySpec, values), ("model.", Pi0Config, model)):
        names = [entry.name for entry in dataclasses.fields(kind) if entry.name not in _LATER]
        missing = [name for name in names if isinstance(there, dict) and name not in there]
        if missing:
            raise KeyError(f"{part}{missing[0]}")


def _from_version_1(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Turns the entries of version 1 (cameras and a number of actions) into those of version 2.

    Raises:
        KeyError, InputError: an entry is missing, or of another kind.
    """
    rest = dict(values)
    cameras, actions = rest.pop("cameras"), _count("action_dim", rest.pop("action_dim"))
    asset_id = rest.get("asset_id", "default")
    if not (isinstance(cameras, list) and all(isinstance(name, str) for name in cameras)):
        raise InputError(f"config key cameras must be a list of words, got {cameras!r:.80}")
    if not (isinstance(asset_id, str) and is_asset_id(asset_id)):
        raise InputError(f"asset_id must be a name such as org/robot, got {asset_id!r}")
    stats = load_norm_stats(folder / "assets" / asset_id / "norm_stats.json")
    # The number of state values is not in config.json, but the statistics have one per value.
    # openpi's third camera was listed although the robots of 0.1 did not have it.
    absent = [name for name in cameras if name == "right_wrist_0_rgb"]
    robot = Robot(
        name="unknown",
        cameras=tuple(name for name in cameras if name not in absent),
        state=numbered("state", len(stats.state.mean)),
        actions=numbered("action", actions),
        masked_cameras=tuple(absent),
    )
    if "condition" in rest:
        rest["branch_mode"] = rest.pop("condition")
    return rest | {"robot": dataclasses.asdict(robot)}


def _from_version_2(values: dict[str, Any]) -> dict[str, Any]:
    """Turns the number of relative actions of version 2 into a mask.

    Raises:
        InputError: it is no such number.
    """
    rest = dict(values)
    mask = (True,) * _count("delta_dims", rest.pop("delta_dims", 0))
    return rest | {"action_space": dataclasses.asdict(ActionSpace(mask))}


def _count(key: str, value: object) -> int:
    """A number of actions that a config.json of before says.

    Raises:
        InputError: it is none, or more than any robot has.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST_ACTIONS:
        raise InputError(
            f"config key {key} must be a whole number from 0 to {_MOST_ACTIONS}, got {value!r:.80}"
        )
    return value
