"""The policy folder: convert writes it, train starts from one and exports one, eval loads it.

config.json                        PolicySpec: architecture, robot, tokenizer
params/                            Orbax, official tree plus cond_embed
assets/<asset_id>/norm_stats.json  openpi's format
manifest.json                      where the weights came from
digests.json                       size and digest of each file (`io/digests.py`)
reference/                         optional: what guidance leads away from (`reference_files.py`)
"""

import dataclasses
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pi0_jax.data.action_space import AS_THE_ROBOT, ActionSpace
from pi0_jax.data.branches import BRANCH_MODES, EMBEDDING
from pi0_jax.data.cameras import check_cameras
from pi0_jax.data.normalize import NormStats, load_norm_stats, save_norm_stats
from pi0_jax.data.tokenizer import TOKENIZERS, open_tokenizer
from pi0_jax.data.transforms import Transforms
from pi0_jax.errors import InputError, check_choices
from pi0_jax.io.atomic import new_folder
from pi0_jax.io.digests import check_digests
from pi0_jax.io.orbax_tree import TreeReader, load_shapes, load_tree, save_tree
from pi0_jax.io.tree_check import check_tree, compare, fail, shapes_by_path
from pi0_jax.json_file import read_object
from pi0_jax.model.config import Pi0Config
from pi0_jax.model.pi0 import COND_EMBED, Pi0
from pi0_jax.plain_values import build
from pi0_jax.policy.reference_files import read_reference, write_reference
from pi0_jax.robot import Robot, numbered
from pi0_jax.robots import robot_names

# Version 1 (pi0_jax 0.1) had cameras and a number of actions instead of a robot, and with version 2
# a number of relative actions (`delta_dims`) instead of a mask.
FORMAT_VERSION = 3
# Entries that version 3 did not have from its beginning.
_LATER = ("branch_mode", "padded_state_text")
TOKENIZER_FILE = "paligemma_tokenizer.model"
PARAMS = "params"

_MOST_ACTIONS = 1000  # in a folder of before; no robot has more
_READ_ALWAYS = 2**20  # bytes of a file whose digest is checked also where no weights are read


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


@dataclass(frozen=True)
class PolicyFolder:
    """A loaded policy folder.

    Attributes:
        spec: what config.json says.
        params: parameter tree, host arrays in the dtype they were saved in.
        stats: statistics of states and actions.
        path: where it was read; None if it was not.
        reference: parameter tree of a base that guidance can lead away from; leaves that it has in
            common with the policy are the arrays of `params` (`reference_fit.py`).
    """

    spec: PolicySpec
    params: dict[str, Any] = field(repr=False)
    stats: NormStats
    path: Path | None = None
    reference: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def has_condition(self) -> bool:
        """Whether its condition embedding was trained; RL does so, to tell its branches apart.

        Where weights were not read (`open_policy`), this reads that leaf alone.
        """
        rows = self.params[COND_EMBED]
        if isinstance(rows, jax.ShapeDtypeStruct):
            assert self.path is not None  # it was opened there
            rows = TreeReader(self.path / PARAMS).read(f"params/{COND_EMBED}")
        return bool(np.any(np.asarray(rows)))

    @property
    def transforms(self) -> Transforms:
        """The conversion of this policy's inputs and outputs, the same in training and acting."""
        spec = self.spec
        return Transforms(
            image_size=spec.model.vision.image_size,
            padded_dim=spec.model.action_dim,
            prompt_length=spec.model.prompt_length,
            tokenizer=open_tokenizer(
                spec.tokenizer, (self.path or Path()) / TOKENIZER_FILE, spec.model.vocab_size
            ),
            stats=self.stats,
            robot=spec.robot,
            action_space=spec.action_space,
            quantile=spec.quantile,
            branch_mode=spec.branch_mode,
            state_in_prompt=spec.state_in_prompt,
            padded_state_text=spec.padded_state_text,
        )


def save_policy(path: str | Path, policy: PolicyFolder, manifest: dict[str, Any]) -> None:
    """Writes a policy folder; it gets its name only when it is complete.

    Raises:
        InputError: `path` exists.
    """
    with new_folder(Path(path)) as folder:
        save_tree(folder / PARAMS, {"params": policy.params})
        if policy.reference is not None:
            write_reference(folder, policy.params, policy.reference)
        describe(folder, policy.spec, policy.stats, manifest, policy.path)


def describe(
    folder: Path,
    spec: PolicySpec,
    stats: NormStats,
    manifest: dict[str, Any],
    tokenizer_from: Path | None,
) -> None:
    """Writes all files of a policy folder except params/.

    Args:
        folder: the policy folder that is being written.
        spec: content of config.json.
        stats: content of assets/.
        manifest: where the weights came from, as plain values.
        tokenizer_from: a folder whose tokenizer model is copied if it has one.
    """
    save_norm_stats(folder / "assets" / spec.asset_id / "norm_stats.json", stats)
    config = {"format_version": FORMAT_VERSION, **dataclasses.asdict(spec)}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    # A copy, so that the folder works by itself when it is moved. One that nothing reads may be any
    # file, as a link that a stranger put there.
    read = spec.tokenizer == "paligemma"
    if read and tokenizer_from and (tokenizer_from / TOKENIZER_FILE).is_file():
        shutil.copy(tokenizer_from / TOKENIZER_FILE, folder / TOKENIZER_FILE)


def load_policy(path: str | Path) -> PolicyFolder:
    """Reads a policy folder and checks every leaf against the architecture.

    Raises:
        InputError: no such folder, unknown format, or parameters that do not fit, all listed; also
            those of its reference.
    """
    path = Path(path).expanduser()
    spec = load_spec(path)
    check_digests(path)
    # Before any value is read: a few bytes can declare more than the memory holds.
    check_shapes(load_shapes(path / PARAMS)["params"], spec.model, path)
    params = load_tree(path / PARAMS)["params"]
    check_params(params, spec.model, path)
    stats = load_norm_stats(path / "assets" / spec.asset_id / "norm_stats.json")
    return PolicyFolder(spec, params, stats, path, read_reference(path, params, load_tree))


def open_policy(path: str | Path) -> PolicyFolder:
    """Reads a policy folder but for its weights: `params` are their shapes and dtypes, checked.

    Raises:
        InputError: as `load_policy`, except for values that are not finite.
    """
    path = Path(path).expanduser()
    spec = load_spec(path)
    check_digests(path, largest=_READ_ALWAYS)
    params = load_shapes(path / PARAMS)["params"]
    check_shapes(params, spec.model, path)
    stats = load_norm_stats(path / "assets" / spec.asset_id / "norm_stats.json")
    return PolicyFolder(spec, params, stats, path, read_reference(path, params, load_shapes))


def check_robot(policy: Robot, task: Robot) -> None:
    """Checks that the policy was trained for the robot of this task.

    Raises:
        InputError: the number of actions or of state values, or the cameras differ, or the gripper
            convention or the control rate, if both robots have one; or both come with the package,
            and their numbers mean something else.
    """
    for kind in ("actions", "state"):
        ours, theirs = len(getattr(policy, kind)), len(getattr(task, kind))
        if ours != theirs:
            raise InputError(
                f"the policy's robot {policy.name!r} has {kind} of {ours} dimensions, the task's "
                f"{task.name!r} of {theirs}; choose a policy of this robot"
            )
    # Converted checkpoints often do not state these two.
    for kind, unknown in (("gripper", "unknown"), ("control_hz", None)):
        ours, theirs = getattr(policy, kind), getattr(task, kind)
        if ours != theirs and unknown not in (ours, theirs):
            raise InputError(f"{kind} is {ours!r} for the policy and {theirs!r} for the task")
    check_cameras(policy, task)
    if {policy.name, task.name} <= set(robot_names()):
        _check_meaning(policy, task)


def _check_meaning(policy: Robot, task: Robot) -> None:
    """Checks that as many numbers mean the same, as those of LIBERO's and Lift's Pandas do not.

    Names of one's own mean nothing here, so it is for robots that come with the package.

    Raises:
        InputError: a dimension has another name or unit.
    """
    for kind in ("actions", "state"):
        for ours, theirs in zip(getattr(policy, kind), getattr(task, kind), strict=True):
            if (ours.name, ours.unit) != (theirs.name, theirs.unit):
                raise InputError(
                    f"{kind} of the policy's robot {policy.name!r} have {ours.name!r} where those "
                    f"of the task's {task.name!r} have {theirs.name!r}; choose a policy of this "
                    "robot"
                )


def check_params(params: dict[str, Any], config: Pi0Config, where: Path) -> None:
    """Every leaf of the architecture is there, in its shape, finite, and nothing else is.

    Raises:
        InputError: one error that lists every missing, unexpected, misshapen or non-finite leaf.
    """
    check_tree(params, _shapes_of(config), where)


def check_shapes(shapes: dict[str, Any], config: Pi0Config, where: Path) -> None:
    """As `check_params`, for a tree of shapes: the values are not looked at.

    Raises:
        InputError: one error that lists every missing, unexpected or misshapen leaf.
    """
    if problems := compare(_shapes_of(config), shapes_by_path(shapes)):
        fail(where, problems)


def _shapes_of(config: Pi0Config) -> dict[str, tuple[int, ...]]:
    """Path -> shape of every leaf of this architecture."""
    return shapes_by_path(Pi0(config).shapes())


def param_count(params: Any) -> int:
    """Number of parameters in a tree: the sum of its arrays' sizes."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def init_policy(spec: PolicySpec, stats: NormStats, seed: int) -> PolicyFolder:
    """A policy with random float32 parameters, for training from scratch."""
    params = jax.jit(Pi0(spec.model).init)(jax.random.key(seed))
    return PolicyFolder(spec, jax.device_get(params), stats)


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
