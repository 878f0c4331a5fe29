"""The parameters of a source as the params/ of a policy folder, one layer at a time."""

from pathlib import Path

import numpy as np

from pi0_jax.convert.keys.keymap import leaves
from pi0_jax.convert.sources.source import (
    Source,
    layer_arrays,
    leaf_shapes,
    progress_bar,
    tasks,
)
from pi0_jax.io import tree_check
from pi0_jax.io.orbax_tree import TreeWriter


def lossless(dtypes: frozenset[str]) -> str:
    """The dtype that holds weights of these dtypes exactly: bfloat16 if all are, else float32."""
    return "bfloat16" if dtypes == {"bfloat16"} else "float32"


def write_params(
    path: Path, source: Source, dtype: str, title: str, *, condition: bool = True
) -> None:
    """Writes params/ layer by layer, with the condition embedding unless openpi will read it.

    Raises:
        InputError: one list of all weights that are not finite.
    """
    config = source.info.config
    shapes, bad = leaf_shapes(config), []
    total = len(tasks(config))
    with TreeWriter(path) as writer, progress_bar(title, total) as progress:
        for leaf in leaves(pi05=config.pi05):
            layered = leaf.depth is not None
            writer.create(f"params/{leaf.path}", shapes[leaf.path], dtype, layered=layered)
        # A write needs its array until it is done. Waiting for the one before keeps at most two
        # layers of the writer in memory, and lets the next be read meanwhile.
        last = None
        for done, array in enumerate(layer_arrays(source, dtype), 1):
            if not array.finite:
                bad.append(f"{array.name}: NaN or infinity")
            write = writer.write(f"params/{array.leaf.path}", array.values, array.layer)
            if last is not None:
                last.result()
            last = write
            progress.update(done, array.leaf.path)
        if last is not None:
            last.result()
        if condition:
            _write_condition(writer, source, dtype)
    # All bad weights in one error; the unfinished folder disappears with it.
    if bad:
        tree_check.fail(title, bad)


def _write_condition(writer: TreeWriter, source: Source, dtype: str) -> None:
    """Writes `cond_embed` [2, w]: zero where the source has none, so the policy acts as before."""
    shape = (2, source.info.config.action.width)
    values = source.cond_embed if source.cond_embed is not None else np.zeros(shape)
    writer.create("params/cond_embed", shape, dtype, layered=False)
    writer.write("params/cond_embed", values.astype(np.dtype(dtype))).result()
