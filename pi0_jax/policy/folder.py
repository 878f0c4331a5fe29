"""The policy folder: what convert writes, train starts from and exports, and eval loads.

config.json                        PolicySpec: architecture, cameras, action space, tokenizer
params/                            Orbax, official tree plus cond_embed
assets/<asset_id>/norm_stats.json  openpi's format
manifest.json                      where the weights came from
"""

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pi0_jax.data.branches import BRANCH_MODES, EMBEDDING
from pi0_jax.data.cameras import check_cameras
from pi0_jax.data.normalize import NormStats, load_norm_stats, save_norm_stats
from pi0_jax.data.tokenizer import ByteTokenizer, PaligemmaTokenizer, Tokenizer
from pi0_jax.data.transforms import Transforms
from pi0_jax.env.stepping import ACTION_DIM
from pi0_jax.errors import InputError, check_choices
from pi0_jax.io.orbax_tree import load_shapes, load_tree, new_folder, save_tree
from pi0_jax.model.config import Pi0Config
from pi0_jax.model.pi0 import Pi0
from pi0_jax.types import path_name

FORMAT_VERSION = 1
TOKENIZER_FILE = "paligemma_tokenizer.model"
PARAMS = "params"


@dataclass(frozen=True)
class PolicySpec:
    """All that is needed to use a parameter tree, except the tree and its statistics.

    Attributes:
        model: architecture.
        cameras: names in the order of `RawObs.images`.
        action_dim: actions of the robot.
        delta_dims: leading action dimensions relative to the state; 0 for none.
        tokenizer: "bytes" or "paligemma".
        execute_steps: actions executed of each chunk before the policy looks again.
        asset_id: folder of the statistics under assets/.
        quantile: quantile instead of z-score normalisation.
        branch_mode: how the branches of guidance are told apart (`data/branches.py`).
    """

    model: Pi0Config
    cameras: tuple[str, ...]
    action_dim: int
    execute_steps: int
    tokenizer: str = "paligemma"
    delta_dims: int = 0
    asset_id: str = "default"
    quantile: bool = False
    branch_mode: str = EMBEDDING

    def __post_init__(self) -> None:
        """Checks what the model can carry.

        Raises:
            InputError: named field.
        """
        if not 1 <= self.execute_steps <= self.model.action_horizon:
            raise InputError(
                f"execute_steps must be between 1 and the action horizon "
                f"{self.model.action_horizon}, got {self.execute_steps}"
            )
        if self.action_dim > self.model.action_dim:
            raise InputError(
                f"action_dim {self.action_dim} exceeds the model's {self.model.action_dim}"
            )
        check_choices("policy", self, {"branch_mode": BRANCH_MODES})


@dataclass(frozen=True)
class PolicyFolder:
    """A loaded policy folder; `params` are host arrays in the dtype they were saved in."""

    spec: PolicySpec
    params: dict[str, Any]
    stats: NormStats
    path: Path | None = None

    @property
    def transforms(self) -> Transforms:
        """The one input and output path of this policy."""
        spec = self.spec
        return Transforms(
            image_size=spec.model.vision.image_size,
            padded_dim=spec.model.action_dim,
            prompt_length=spec.model.prompt_length,
            tokenizer=_tokenizer(spec.tokenizer, self.path),
            stats=self.stats,
            action_dim=spec.action_dim,
            delta_dims=spec.delta_dims,
            quantile=spec.quantile,
            branch_mode=spec.branch_mode,
        )


def save_policy(path: Path, policy: PolicyFolder, manifest: dict[str, Any]) -> None:
    """Writes a policy folder; it appears under its name only when whole.

    Raises:
        InputError: `path` exists.
    """
    with new_folder(path) as folder:
        save_tree(folder / PARAMS, {"params": policy.params})
        describe(folder, policy.spec, policy.stats, manifest, policy.path)


def describe(
    folder: Path,
    spec: PolicySpec,
    stats: NormStats,
    manifest: dict[str, Any],
    tokenizer_from: Path | None,
) -> None:
    """Writes everything of a policy folder but params/.

    Args:
        folder: the policy folder in the making.
        spec: for config.json.
        stats: for assets/.
        manifest: where the weights came from, plain values.
        tokenizer_from: a folder whose tokenizer model, if it has one, comes along.
    """
    save_norm_stats(folder / "assets" / spec.asset_id / "norm_stats.json", stats)
    config = {"format_version": FORMAT_VERSION, **dataclasses.asdict(spec)}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    if tokenizer_from and (tokenizer_from / TOKENIZER_FILE).is_file():
        shutil.copy(tokenizer_from / TOKENIZER_FILE, folder / TOKENIZER_FILE)


def load_policy(path: Path) -> PolicyFolder:
    """Reads a policy folder and checks every leaf against the architecture.

    Raises:
        InputError: no such folder, unknown format, or parameters that do not fit, all listed.
    """
    path = path.expanduser()
    spec = load_spec(path)
    params = load_tree(path / PARAMS)["params"]
    check_params(params, spec.model, path)
    stats = load_norm_stats(path / "assets" / spec.asset_id / "norm_stats.json")
    return PolicyFolder(spec, params, stats, path)


def open_policy(path: Path) -> PolicyFolder:
    """Reads a policy folder but for its weights: `params` are their shapes and dtypes, checked.

    Raises:
        InputError: as `load_policy`, except for values that are not finite.
    """
    path = path.expanduser()
    spec = load_spec(path)
    params = load_shapes(path / PARAMS)["params"]
    _refuse(_misshapen(params, spec.model), path)
    stats = load_norm_stats(path / "assets" / spec.asset_id / "norm_stats.json")
    return PolicyFolder(spec, params, stats, path)


def check_task(spec: PolicySpec, cameras: tuple[str, ...]) -> None:
    """The policy was made for the cameras of this task, and for the robot.

    Raises:
        InputError: other cameras, another number or order of them, or other actions.
    """
    if spec.action_dim != ACTION_DIM:
        raise InputError(f"the policy gives {spec.action_dim} actions, the robot has {ACTION_DIM}")
    check_cameras(spec.cameras, cameras)


def check_params(params: dict[str, Any], config: Pi0Config, where: Path) -> None:
    """Every leaf of the architecture is there, in its shape, finite, and nothing else is.

    Raises:
        InputError: one error that lists every missing, unexpected, misshapen or non-finite leaf.
    """
    problems = _misshapen(params, config)
    _refuse(problems + [f"{name}: NaN or infinity" for name in not_finite(params)], where)


def _refuse(problems: list[str], where: Path) -> None:
    if problems:
        raise InputError(f"{where}: parameters do not fit: " + "; ".join(problems))


def _misshapen(params: dict[str, Any], config: Pi0Config) -> list[str]:
    """What is missing, unexpected or of another shape in a tree of arrays or shapes."""
    wanted = shapes_by_path(jax.eval_shape(Pi0(config).init, jax.random.key(0)))
    found = shapes_by_path(params)
    problems = [f"missing {name} {wanted[name]}" for name in sorted(wanted.keys() - found.keys())]
    problems += [
        f"unexpected {name} {found[name]}" for name in sorted(found.keys() - wanted.keys())
    ]
    return problems + [
        f"{name}: expected shape {wanted[name]}, got {found[name]}"
        for name in sorted(wanted.keys() & found.keys())
        if wanted[name] != found[name]
    ]


def shapes_by_path(tree: Any) -> dict[str, tuple[int, ...]]:
    """Slash-joined path of each leaf to its shape."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {path_name(path): tuple(leaf.shape) for path, leaf in leaves}


def not_finite(tree: Any) -> list[str]:
    """Paths of leaves that hold a NaN or an infinity."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    # bfloat16 is no NumPy type of its own: look at it in float32.
    return [
        path_name(path)
        for path, leaf in leaves
        if not np.isfinite(np.asarray(leaf, np.float32)).all()
    ]


def param_count(params: Any) -> int:
    """Number of parameters in a tree."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def init_policy(spec: PolicySpec, stats: NormStats, seed: int) -> PolicyFolder:
    """A policy with random float32 parameters, for training from scratch."""
    params = jax.jit(Pi0(spec.model).init)(jax.random.key(seed))
    return PolicyFolder(spec, jax.device_get(params), stats)


def load_spec(folder: Path) -> PolicySpec:
    """Reads the config.json of a policy folder.

    Raises:
        InputError: no such file, or one of another kind or version.
    """
    path = folder / "config.json"
    kind = f"{path}: expected a policy folder's config.json"
    try:
        values = json.loads(path.read_text())
        version = values.pop("format_version")
        if version != FORMAT_VERSION:
            raise InputError(f"expected format {FORMAT_VERSION}, got {version}")
        model = Pi0Config.from_dict(values.pop("model"))
        cameras = tuple(values.pop("cameras"))
        return PolicySpec(model=model, cameras=cameras, **values)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected a policy folder") from error
    except KeyError as error:
        raise InputError(f"{kind}, which has {error}") from error
    except (TypeError, ValueError, AttributeError, OSError) as error:
        raise InputError(f"{kind}: {error}") from error


def _tokenizer(kind: str, folder: Path | None) -> Tokenizer:
    if kind == "bytes":
        return ByteTokenizer()
    if kind == "paligemma":
        return PaligemmaTokenizer((folder or Path()) / TOKENIZER_FILE)
    raise InputError(f"tokenizer must be 'bytes' or 'paligemma', got {kind!r}")
