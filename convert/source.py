"""A checkpoint of any layout as a source of layers in our axes."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from convert.accounting import is_finite
from convert.architecture import axis_sizes
from convert.keymap import LEAVES, Leaf, shape
from pi0_jax.model.config import Pi0Config

# Layers read, checked and turned at the same time; each is up to 150 MB in bfloat16.
_AHEAD = 3


@dataclass(frozen=True)
class Facts:
    """What a source says about itself; opening it has checked every key and shape.

    Attributes:
        layout: name of the layout.
        config: the architecture; compute dtype float32.
        dtypes: names of the dtypes of the weights.
        files: what was read.
        used: keys that hold weights.
        unused: keys that no forward pass reads, with the reason.
        notes: what a user should know, such as merged adapters.
    """

    layout: str
    config: Pi0Config
    dtypes: frozenset[str]
    files: list[Path]
    used: list[str]
    unused: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Source(Protocol):
    """Weights of one checkpoint, one layer at a time.

    Attributes:
        facts: layout, architecture, accounting.
        cond_embed: float[2, w] of a policy of ours; None where a layout has no condition.
    """

    facts: Facts
    cond_embed: np.ndarray | None

    def read(self, leaf: Leaf, layer: int | None) -> np.ndarray:
        """One layer of a leaf (or a whole leaf without layers) in our axes, as stored."""
        ...


@dataclass(frozen=True)
class Piece:
    """One layer of one leaf; `finite` says that no value is NaN or infinite."""

    leaf: Leaf
    layer: int | None
    values: np.ndarray
    finite: bool

    @property
    def name(self) -> str:
        """For messages."""
        return self.leaf.path if self.layer is None else f"{self.leaf.path}[{self.layer}]"


def leaf_shapes(config: Pi0Config) -> dict[str, tuple[int, ...]]:
    """Path of every official leaf to its shape."""
    sizes = axis_sizes(config)
    return {leaf.path: shape(leaf.axes, sizes) for leaf in LEAVES}


def layers(leaf: Leaf, config: Pi0Config) -> list[int | None]:
    """The layers of a leaf; [None] for a leaf without."""
    if leaf.depth is None:
        return [None]
    return list(range(config.depth if leaf.depth == "depth" else config.vision.depth))


def pieces(source: Source, dtype: str) -> Iterator[Piece]:
    """Every layer of every leaf in table order, in `dtype`, contiguous, a few read ahead."""
    todo = [(leaf, i) for leaf in LEAVES for i in layers(leaf, source.facts.config)]

    def load(leaf: Leaf, layer: int | None) -> Piece:
        values = np.ascontiguousarray(source.read(leaf, layer), np.dtype(dtype))
        return Piece(leaf, layer, values, is_finite(values))

    with ThreadPoolExecutor(_AHEAD) as threads:
        waiting: list[Future[Piece]] = []
        for task in todo:
            waiting.append(threads.submit(load, *task))
            if len(waiting) > _AHEAD:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def load_params(source: Source, dtype: str) -> dict[str, Any]:
    """The whole tree in memory, `cond_embed` zero where the layout has none: host arrays in `dtype`."""
    config = source.facts.config
    flat = {path: np.empty(size, np.dtype(dtype)) for path, size in leaf_shapes(config).items()}
    for piece in pieces(source, dtype):
        flat[piece.leaf.path][... if piece.layer is None else piece.layer] = piece.values
    condition = source.cond_embed
    if condition is None:
        condition = np.zeros((2, config.action.width))
    flat["cond_embed"] = condition.astype(np.dtype(dtype))
    return nest(flat)


def nest(flat: dict[str, Any]) -> dict[str, Any]:
    """Slash-joined paths to nested dicts."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *folders, name = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = value
    return tree
