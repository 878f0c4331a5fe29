"""A checkpoint of any layout as a source of layers in our axes."""

import io
import math
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from pi0_jax.convert.keys.architecture import axis_sizes
from pi0_jax.convert.keys.keymap import Leaf, leaves, shape
from pi0_jax.convert.keys.layout_copy import contiguous
from pi0_jax.io.metrics_writer import Progress
from pi0_jax.io.orbax_tree import nest
from pi0_jax.io.tree_check import fail, is_finite
from pi0_jax.model.config import Pi0Config

T = TypeVar("T")
U = TypeVar("U")

# Layers that are read, checked and converted at the same time; each is up to 150 MB in bfloat16.
_AHEAD = 3


@dataclass(frozen=True)
class CheckpointInfo:
    """What is known about a checkpoint once it is open, with every key and shape checked.

    Attributes:
        layout: name of the layout.
        config: the architecture; compute dtype float32.
        dtypes: names of the weights' dtypes.
        files: the files that hold it.
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
        info: layout, architecture, and which keys are used.
        folder: where it lies; its tokenizer lies beside it.
        cond_embed: condition embedding of a policy folder, float[2, w]; None for a layout that
            has no condition.
    """

    info: CheckpointInfo
    folder: Path
    cond_embed: np.ndarray | None

    def read(self, leaf: Leaf, layer: int | None) -> np.ndarray:
        """One layer of a leaf (a whole leaf, if it has none) in our axes and the stored dtype."""
        ...


@dataclass(frozen=True)
class LayerArray:
    """One layer of one leaf.

    Attributes:
        leaf: the leaf.
        layer: its number; None for a leaf without layers.
        values: the weights, with the axes `leaf.layer_axes`.
        finite: whether no value is NaN or infinite.
    """

    leaf: Leaf
    layer: int | None
    values: np.ndarray
    finite: bool

    @property
    def name(self) -> str:
        """Name for messages, such as "path/to/leaf[3]"."""
        return self.leaf.path if self.layer is None else f"{self.leaf.path}[{self.layer}]"


def leaf_shapes(config: Pi0Config) -> dict[str, tuple[int, ...]]:
    """Path of every official leaf to its shape."""
    sizes = axis_sizes(config)
    return {leaf.path: shape(leaf.axes, sizes) for leaf in leaves(pi05=config.pi05)}


def parameters(config: Pi0Config) -> int:
    """Number of official parameters."""
    return sum(math.prod(shape) for shape in leaf_shapes(config).values())


def progress_bar(title: str, total: int) -> AbstractContextManager[Progress]:
    """A progress line on standard error, if that is a terminal."""
    # In a log file an error shall be the only line on standard error; the summary has the rest.
    stream = sys.stderr if sys.stderr.isatty() else io.StringIO()
    return Progress(title, total, stream)


def layers(leaf: Leaf, config: Pi0Config) -> list[int | None]:
    """Numbers of a leaf's layers; [None] for a leaf without layers."""
    if leaf.depth is None:
        return [None]
    return list(range(config.depth if leaf.depth == "depth" else config.vision.depth))


def ahead(work: Callable[[T], U], tasks: Iterable[T]) -> Iterator[U]:
    """Results of `work` in order, a few of them computed ahead in threads."""
    with ThreadPoolExecutor(_AHEAD) as threads:
        # The queue bounds memory: a task starts only when an earlier result has been taken.
        waiting: deque[Future[U]] = deque()
        for task in tasks:
            waiting.append(threads.submit(work, task))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def tasks(config: Pi0Config) -> list[tuple[Leaf, int | None]]:
    """Every layer of every leaf, in the order of `keymap.leaves`."""
    return [(leaf, i) for leaf in leaves(pi05=config.pi05) for i in layers(leaf, config)]


def layer_arrays(source: Source, dtype: str) -> Iterator[LayerArray]:
    """Every layer of every leaf, in the order of `tasks`, contiguous and in `dtype`."""

    def load(task: tuple[Leaf, int | None]) -> LayerArray:
        """Runs in a thread; NumPy's copies and checks release the interpreter's lock."""
        values = contiguous(source.read(*task), dtype)
        return LayerArray(*task, values, is_finite(values))

    return ahead(load, tasks(source.info.config))


def load_params(source: Source, dtype: str) -> dict[str, Any]:
    """The whole tree in memory as host arrays; `cond_embed` is zero where a layout has none.

    Raises:
        InputError: one list of all weights that are not finite.
    """
    config = source.info.config
    # Filled layer by layer: there is never a second copy of the whole tree.
    flat = {path: np.empty(size, np.dtype(dtype)) for path, size in leaf_shapes(config).items()}
    bad = []
    for array in layer_arrays(source, dtype):
        flat[array.leaf.path][... if array.layer is None else array.layer] = array.values
        if not array.finite:
            bad.append(f"{array.name}: NaN or infinity")
    if bad:
        fail(source.info.layout, bad)
    # float[2, w]; zeros change no velocity.
    condition = source.cond_embed
    if condition is None:
        condition = np.zeros((2, config.action.width))
    flat["cond_embed"] = condition.astype(np.dtype(dtype))
    return nest(flat)
