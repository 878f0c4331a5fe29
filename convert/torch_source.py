"""A PyTorch checkpoint of any layout as a `Source`: recognised by its keys, fully accounted for."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from convert import accounting
from convert.architecture import Settings, config_from_sizes, vote
from convert.heads import UNKNOWN, Declared, split
from convert.keymap import (
    EMBEDDING,
    LAYOUTS,
    LEAVES,
    STATISTICS,
    Layout,
    Leaf,
    Tensor,
    groups,
    rearrange,
)
from convert.layout_copy import fill
from convert.source import Facts
from convert.torch_config import TorchConfig, read_config
from convert.torch_files import Tensors, open_tensors
from pi0_jax.errors import InputError

# transformers up to 5.5 has one more level; nothing else distinguishes the names.
_OPTIONAL_LEVEL = ("vision_tower.vision_model.", "vision_tower.")

FAMILIES = tuple(sorted({layout.family for layout in LAYOUTS}))

Expected = dict[str, tuple[Leaf, Tensor]]
"""Key on disk to the leaf and the table entry that it serves."""


class TorchSource:
    """`Source` of a PyTorch checkpoint.

    Attributes:
        facts: layout, architecture, accounting.
        layout: prefixes of the names.
        tensors: the files.
        config: their config.json.
        cond_embed: None, no PyTorch layout has a condition.
    """

    cond_embed: np.ndarray | None = None

    def __init__(
        self,
        path: Path,
        family: str = "auto",
        flags: Declared = UNKNOWN,
        horizon: int | None = None,
    ):
        """Opens a folder or file and checks every key, shape and dtype; reads no weights yet.

        Args:
            path: folder or weight file.
            family: what --layout says.
            flags: head counts from the command line.
            horizon: actions in a chunk; None takes the config's, or 50.

        Raises:
            InputError: no known layout, another than `family`, or one list of all that is wrong.
        """
        folder = path if path.is_dir() else path.parent
        self.tensors, self.config = open_tensors(path), read_config(folder)
        self._keys = _without_optional_level(self.tensors, path)
        self.layout = recognise(self._keys.keys(), path)
        _check_family(self.layout, family, self.config, path)
        depths = {
            "depth": _depth(self._keys.keys(), f"{self.layout.vlm}.layers."),
            "vision_depth": _depth(self._keys.keys(), f"{self.layout.vision}.encoder.layers."),
        }
        self._embedding, unused = _embedding_key(self.layout, self._keys)
        expected = self._expected(depths)
        unused |= {k: v for k, v in self.layout.unused.items() if k in self._keys}
        unused |= {k: "statistics" for k in self._keys if k.startswith(STATISTICS)}
        grouped = self._account(path, expected, unused)
        self._sizes = depths | split(grouped, flags, _declared(self))
        settings = Settings(
            horizon or self.config.action_horizon or 50, self.config.prompt_length or 48
        )
        self.facts = Facts(
            layout=self.layout.name,
            config=config_from_sizes(self._sizes, settings),
            dtypes=frozenset(self.tensors.dtypes[self._keys[key]] for key in expected),
            files=self.tensors.files,
            used=sorted(self._keys[key] for key in expected),
            unused={self._keys[key]: why for key, why in unused.items() if why != "statistics"},
            notes=[self._heads_note()],
        )

    def read(self, leaf: Leaf, layer: int | None) -> np.ndarray:
        """One layer of a leaf in our axes."""
        parts = [
            rearrange(self._tensor(leaf, t, layer), t.axes, leaf.part_axes, self._sizes)
            for t in leaf.tensors
        ]
        if len(parts) == 1:
            return parts[0]
        both = np.empty((len(parts), *parts[0].shape), parts[0].dtype)
        for out, part in zip(both, parts, strict=True):
            fill(out, part)
        return both

    def _tensor(self, leaf: Leaf, tensor: Tensor, layer: int | None) -> np.ndarray:
        key = self._embedding if leaf is EMBEDDING else self.layout.key(tensor, layer or 0)
        return self.tensors.read(self._keys[key])

    def _expected(self, depths: dict[str, int]) -> Expected:
        """Every key that a complete checkpoint has."""
        found: Expected = {}
        for leaf in LEAVES:
            for i in range(depths[leaf.depth] if leaf.depth else 1):
                for tensor in leaf.tensors:
                    found[self.layout.key(tensor, i)] = leaf, tensor
        found[self._embedding] = EMBEDDING, EMBEDDING.tensors[0]
        if self._embedding != self.layout.key(EMBEDDING.tensors[0]):
            del found[self.layout.key(EMBEDDING.tensors[0])]
        return found

    def _account(self, path: Path, expected: Expected, unused: dict[str, str]) -> dict[str, int]:
        """Checks names, dtypes and shapes; sizes of the (grouped) axes.

        Raises:
            InputError: one list of all that is wrong, values that are not finite included.
        """
        keys = self._keys.keys() - unused.keys()
        found = {key: self.tensors.shapes[self._keys[key]] for key in keys}
        axes = {key: tensor.axes for key, (_, tensor) in expected.items()}
        sizes = vote((axes[key], found[key]) for key in sorted(keys & axes.keys()))
        wanted = {
            key: tuple(sizes.get(group, 0) for group in groups(names))
            for key, names in axes.items()
        }
        dtypes = {key: self.tensors.dtypes[self._keys[key]] for key in keys}
        problems = accounting.compare(wanted, found) + accounting.dtypes(dtypes)
        if problems:
            accounting.fail(path, problems + self._not_finite(dtypes))
        return sizes

    def _not_finite(self, dtypes: dict[str, str]) -> list[str]:
        return [
            f"{key}: NaN or infinity"
            for key in sorted(dtypes)
            if dtypes[key] in accounting.WEIGHT_DTYPES
            and not accounting.is_finite(self.tensors.read(self._keys[key]))
        ]

    def _heads_note(self) -> str:
        sizes = self._sizes
        return (
            f"{sizes['heads']} query heads and {sizes['kv_heads']} key/value heads of "
            f"{sizes['head_dim']}; image tower {sizes['vision_heads']} heads of "
            f"{sizes['vision_head_dim']}"
        )


def recognise(keys: Iterable[str], path: Path) -> Layout:
    """The layout whose names fit most of the keys.

    Raises:
        InputError: pi0.5, or none fits.
    """
    names = set(keys)
    if any("time_mlp_in" in key and "action_time_mlp_in" not in key for key in names):
        raise InputError(
            f"{path}: this is a pi0.5 checkpoint (it has time_mlp_in); only pi0 is supported"
        )
    tensors = [tensor for leaf in LEAVES for tensor in leaf.tensors]
    scores = {
        layout.name: sum(layout.key(tensor) in names for tensor in tensors) for layout in LAYOUTS
    }
    best = max(LAYOUTS, key=lambda layout: scores[layout.name])
    if scores[best.name] < len(tensors) // 2:
        some = ", ".join(sorted(names)[:3])
        raise InputError(
            f"{path}: {len(names)} keys of no known pi0 layout, such as {some}; known: "
            + ", ".join(layout.name for layout in LAYOUTS)
        )
    return best


def _check_family(layout: Layout, family: str, config: TorchConfig, path: Path) -> None:
    # transformers also writes openpi's names (after loading them); its config.json tells.
    wrote_openpi_names = family == "transformers" and config.is_transformers
    if family in ("auto", layout.family) or (layout.family == "openpi" and wrote_openpi_names):
        return
    raise InputError(
        f"--layout {family}: the keys of {path} are those of {layout.name}; "
        f"use --layout {layout.family} or leave it out"
    )


def _without_optional_level(tensors: Tensors, path: Path) -> dict[str, str]:
    """Key without `vision_model.` to key on disk."""
    keys: dict[str, str] = {}
    for key in tensors.shapes:
        short = key.replace(*_OPTIONAL_LEVEL)
        if short in keys:
            raise InputError(f"{path}: {key} and {keys[short]} are the same tensor twice")
        keys[short] = key
    return keys


def _embedding_key(layout: Layout, keys: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Where the token embedding is, and the stale lm_head to ignore.

    safetensors keeps one name of a tied pair, the alphabetically first: lm_head. lerobot from 0.5
    on unties the pair, and then lm_head holds anything.
    """
    key = layout.key(EMBEDDING.tensors[0])
    if layout.lm_head not in keys:
        return key, {}
    if key in keys:
        return key, {layout.lm_head: "stale: the token embedding has a tensor of its own"}
    return layout.lm_head, {}


def _depth(keys: Iterable[str], prefix: str) -> int:
    """Layers: indices that have at least half as many keys as the fullest has."""
    counts = Counter(
        int(key.removeprefix(prefix).split(".")[0])
        for key in set(keys)
        if key.startswith(prefix) and key.removeprefix(prefix).split(".")[0].isdigit()
    )
    full = max(counts.values(), default=0)
    return 1 + max((i for i, count in counts.items() if 2 * count >= full), default=0)


def _declared(source: TorchSource) -> Declared:
    """Head counts from config.json, or from the header that our own exports carry."""
    header = source.tensors.metadata
    if "num_heads" not in header:
        return source.config.heads
    return Declared(*(int(header[name]) for name in Declared._fields))
