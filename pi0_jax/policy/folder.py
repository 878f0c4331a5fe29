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

from pi0_jax.data.normalize import NormStats, load_norm_stats, save_norm_stats
from pi0_jax.data.tokenizer import open_tokenizer
from pi0_jax.data.transforms import Transforms
from pi0_jax.io.atomic import new_folder
from pi0_jax.io.digests import check_digests
from pi0_jax.io.orbax_tree import TreeReader, load_shapes, load_tree, save_tree
from pi0_jax.io.tree_check import check_tree, compare, fail, shapes_by_path
from pi0_jax.model.config import Pi0Config
from pi0_jax.model.pi0 import COND_EMBED, Pi0
from pi0_jax.policy.reference_files import read_reference, write_reference
from pi0_jax.policy.spec import FORMAT_VERSION, PolicySpec, load_spec

TOKENIZER_FILE = "paligemma_tokenizer.model"
PARAMS = "params"

_READ_ALWAYS = 2**20  # bytes of a file whose digest is checked also where no weights are read


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
