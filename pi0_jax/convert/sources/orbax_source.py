"""Official Orbax folders and our own policy folders as a `Source`.

The official tree is ours, leaf for leaf, so no axis has to move. What differs between saves:
training saves end every path in `value`; adapters (LoRA) lie beside the weights; with as many
key heads as query heads, the two projections are one `qkv_einsum`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pi0_jax.convert.files import checkpoint_below
from pi0_jax.convert.keys.architecture import HORIZON_ASSUMED, Settings, config_from_sizes, vote
from pi0_jax.convert.keys.keymap import LEAVES, PI05_LEAVES, Leaf, groups, leaves
from pi0_jax.convert.sources.other_policies import refuse_tree
from pi0_jax.convert.sources.source import CheckpointInfo
from pi0_jax.errors import InputError
from pi0_jax.io import tree_check
from pi0_jax.io.orbax_tree import TreeReader
from pi0_jax.model.config import Pi0Config
from pi0_jax.policy.folder import PARAMS
from pi0_jax.policy.spec import PolicySpec, load_spec

COND_EMBED = "cond_embed"
# Where train_state/ keeps weights. The moving average comes first, because openpi evaluates and
# releases it.
_TRAIN_STATE_ROOTS = ("ema_params", "params")
# What openpi's TrainState has beside them.
_NO_WEIGHTS = ("step", "opt_state", "model_def", "tx", "ema_decay")
# Orbax folders of a checkpoint that hold weights; the first that is there is taken.
_STORES = (PARAMS, "train_state")
# The projection whose einsum sums over the heads.
_HEADS_SUMMED = "/attn_vec_einsum/"
# The file that Orbax writes into every folder of arrays.
_METADATA = "_METADATA"


class StoredLeaf(NamedTuple):
    """Where an official tree keeps a leaf.

    Attributes:
        path: path in that tree, without a trailing `value`.
        axes: axes of the whole stored array, as `keymap` writes them.
        part: entries of a layer's first axis that belong to the leaf; None for all of them.
    """

    path: str
    axes: str
    part: int | slice | None = None


class OrbaxSource:
    """`Source` of an official checkpoint or of a policy folder.

    Attributes:
        info: layout, architecture, and which keys are used.
        folder: the folder in which assets/ lies.
        spec: the spec of a policy folder; None for an official checkpoint.
        cond_embed: condition embedding of a policy folder, float[2, w]; None for an official
            checkpoint.
    """

    def __init__(self, path: Path, horizon: int | None = None):
        """Opens a folder and checks every key, shape and dtype; reads no weights yet.

        Args:
            path: step folder (with params/), the params folder itself, or a policy folder.
            horizon: actions per chunk, which an official checkpoint does not say; 50 if None.

        Raises:
            InputError: nothing to read there, or one list of everything that is wrong.
        """
        self.folder, store, found = _locate(path)
        self.spec = load_spec(self.folder) if is_policy(self.folder) else None
        self._tree = TreeReader(store)
        self._keys, chosen = official_names(self._tree.shapes)
        notes = found + chosen
        refuse_tree(self._keys, path)
        pi05 = _is_pi05(self._keys)
        self._stored = {leaf.path: _stored(leaf, self._keys) for leaf in leaves(pi05=pi05)}
        # Only weights of which at least one factor is stored have an adapter.
        self._lora = {s.path: _adapters(s.path) for s in self._stored.values()}
        self._lora = {path: ab for path, ab in self._lora.items() if self._keys.keys() & {*ab}}
        sizes = self._account(path)
        if not (self.spec or horizon):
            notes.append(HORIZON_ASSUMED)
        self.info = CheckpointInfo(
            layout="pi0_jax policy" if self.spec else "openpi orbax",
            config=self._config(sizes, path, horizon),
            dtypes=frozenset(self._tree.dtypes[key] for key in self._keys.values()),
            files=sorted(file for file in store.rglob("*") if file.is_file()),
            used=sorted(self._keys.values()),
            notes=notes + [f"{len(self._lora)} low-rank adapters merged"] * bool(self._lora),
        )
        self.cond_embed = self._tree.read(self._keys[COND_EMBED]) if self.spec else None

    def read(self, leaf: Leaf, layer: int | None) -> np.ndarray:
        """One layer of a leaf in our axes, adapters merged."""
        stored = self._stored[leaf.path]
        values = self._tree.read(self._keys[stored.path], layer)
        if stored.path in self._lora:
            a, b = (
                self._tree.read(self._keys[key], layer).astype(np.float32)
                for key in self._lora[stored.path]
            )
            # In float32, because a small delta would be rounded away in bfloat16.
            values = values.astype(np.float32) + _delta(stored.path, a, b)
        return values if stored.part is None else values[stored.part]

    def _account(self, path: Path) -> dict[str, int]:
        """Checks names, dtypes and shapes; returns the sizes of the axes.

        Raises:
            InputError: one list of everything that is wrong, with values that are not finite.
        """
        stored = {s.path: s.axes for s in self._stored.values()}
        found = {name: self._tree.shapes[key] for name, key in self._keys.items()}
        dtypes = {name: self._tree.dtypes[key] for name, key in self._keys.items()}
        sizes = vote((axes, found[name]) for name, axes in stored.items() if name in found)
        # Numbers in `axes` are axes of that size; 3 is that of a fused `qkv_einsum`.
        sizes |= {"1": 1, "2": 2, "3": 3}
        wanted = {
            name: tuple(sizes.get(axis, 0) for axis in groups(axes))
            for name, axes in stored.items()
        }
        if self.spec:
            wanted[COND_EMBED] = (2, sizes.get("action", 0))
        for name, (a, b) in self._lora.items():
            # The rank is free: the first factor sets it, and the second must agree.
            *outer, fan_in, fan_out = wanted[name]
            rank = found[a][-1] if a in found else 0
            wanted |= {a: (*outer, fan_in, rank), b: (*outer, rank, fan_out)}
        problems = tree_check.compare(wanted, found) + tree_check.dtypes(dtypes)
        if problems:
            # The conversion checks values as it reads them. Here they complete the one list.
            tree_check.fail(path, problems + self._not_finite())
        return sizes

    def _not_finite(self) -> list[str]:
        return tree_check.not_finite(
            (name, self._tree.read(key))
            for name, key in sorted(self._keys.items())
            if self._tree.dtypes[key] in tree_check.WEIGHT_DTYPES
        )

    def _config(self, sizes: dict[str, int], path: Path, horizon: int | None) -> Pi0Config:
        if self.spec is None:
            return config_from_sizes(sizes, Settings(horizon or 50))
        model = self.spec.model
        found = config_from_sizes(
            sizes, Settings(model.action_horizon, model.prompt_length, model.compute_dtype)
        )
        if found != model:
            raise InputError(f"{path}: config.json says {model}, the parameters are of {found}")
        return found


def is_policy(path: Path) -> bool:
    """Whether `save_policy` wrote this folder."""
    return (path / "config.json").is_file() and (path / PARAMS / _METADATA).is_file()


def official_names(found: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Maps official paths to stored paths, and notes what the user should know about the choice.

    Drops the root (`params`, or the first of train_state/'s roots that is there), and a trailing
    `value` if all paths have it, which is openpi's own rule.

    Args:
        found: slash-joined paths of the stored leaves.
    """
    found = list(found)
    roots = {key.split("/")[0] for key in found}
    root = next((name for name in _TRAIN_STATE_ROOTS if name in roots), "")
    keys = [key for key in found if key.startswith(f"{root}/")]
    suffix = "/value" if keys and all(key.endswith("/value") for key in keys) else ""
    names = {key.removeprefix(f"{root}/").removesuffix(suffix): key for key in keys}
    if root:
        # Anything else is left over, and is reported by its whole path.
        known = (*_TRAIN_STATE_ROOTS, *_NO_WEIGHTS)
        names |= {key: key for key in found if key.split("/")[0] not in known}
    notes = [f"weights from train_state/{root}"] if len(roots) > 1 else []
    return names, notes


def is_orbax(folder: Path) -> bool:
    """Whether a folder is an Orbax save, or a step or policy folder with one."""
    return any((folder / name / _METADATA).is_file() for name in (".", *_STORES))


def _locate(path: Path) -> tuple[Path, Path, list[str]]:
    """The checkpoint folder, the Orbax folder in it, and notes on how they were found.

    Raises:
        InputError: there is none; the message says what was found instead. Or several.
    """
    if not path.exists():
        raise InputError(f"{path}: no such folder")
    found = checkpoint_below.find(path, is_orbax) if path.is_dir() else None
    if found is None:
        raise InputError(f"{path}: expected an Orbax checkpoint (with params/), {_instead(path)}")
    folder, notes = found
    if (folder / _METADATA).is_file():
        return folder.parent, folder, notes
    stores = [name for name in _STORES if (folder / name / _METADATA).is_file()]
    if len(stores) > 1:
        notes.append(f"weights from {stores[0]}/, as openpi evaluates them; not {stores[1]}/")
    return folder, folder / stores[0], notes


def _instead(path: Path) -> str:
    # The likely mistakes, each with what to do about it.
    if path.is_file():
        return "found a file"
    there = sorted(child.name for child in path.iterdir())
    if any("orbax-checkpoint-tmp" in name or name.startswith("ocdbt.process_") for name in there):
        return f"found {', '.join(there[:8])}: saving was interrupted; take an earlier step"
    if any(name.endswith((".safetensors", ".bin", ".pt")) for name in there):
        return "found PyTorch weights; use `python -m convert.torch_to_flax`"
    return f"found {', '.join(there[:8]) if there else 'an empty folder'}"


def _is_pi05(keys: dict[str, str]) -> bool:
    # By majority, so that a stray or a missing leaf is reported as such.
    hits = [sum(leaf.path in keys for leaf in table) for table in (LEAVES, PI05_LEAVES)]
    return hits[1] > hits[0]


def _stored(leaf: Leaf, keys: dict[str, str]) -> StoredLeaf:
    # A fused projection stacks query, key and value: [depth, 3, heads, vlm, head_dim].
    for name, part in (("q_einsum", 0), ("kv_einsum", slice(1, 3))):
        fused = leaf.path.replace(f"/{name}", "/qkv_einsum")
        if fused != leaf.path and fused in keys:
            axes = leaf.layer_axes.removeprefix("2 ")
            return StoredLeaf(fused, f"depth 3 {axes}", part)
    return StoredLeaf(leaf.path, leaf.axes)


def _delta(path: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """What an adapter adds to one layer of a weight, float32[heads, fan_in, fan_out].

    delta = a b alpha / rank, and openpi sets alpha = rank.

    Args:
        path: of the weight.
        a: float32[heads, fan_in, rank], or without the axis of heads.
        b: float32[heads, rank, fan_out], likewise.
    """
    if _HEADS_SUMMED in path:
        # openpi's `lora.Einsum` applies BTNH,NHL->BTL and then BTL,NLD->BTD: the heads are gone
        # after the first, so that every head's part passes through every head's b.
        b = b.sum(-3, keepdims=True)
    return a @ b


def _adapters(path: str) -> tuple[str, str]:
    """Names that openpi gives to the two factors of a weight's adapter."""
    stem = f"{path.removesuffix('w')}" if path.endswith("/w") else f"{path}_"
    return f"{stem}lora_a", f"{stem}lora_b"


def spec_of(source: OrbaxSource) -> PolicySpec:
    """The spec of a policy folder.

    Raises:
        InputError: an official checkpoint, which has none.
    """
    if source.spec is None:
        raise InputError(f"{source.folder}: expected a policy folder (with config.json)")
    return source.spec
