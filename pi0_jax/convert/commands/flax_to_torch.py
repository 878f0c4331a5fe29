"""Policy folder -> the folder of a PyTorch library, with its config and statistics.

python -m convert.flax_to_torch SRC DST --layout openpi|lerobot|transformers|rlinf [--overwrite]
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pi0_jax.convert.commands import command
from pi0_jax.convert.files.safetensors_file import SafetensorsWriter
from pi0_jax.convert.into.to_policy import sha256
from pi0_jax.convert.into.write_params import lossless
from pi0_jax.convert.keys.architecture import axis_sizes
from pi0_jax.convert.keys.keymap import (
    EMBEDDING,
    LEROBOT,
    OPENPI,
    TRANSFORMERS,
    Leaf,
    Tensor,
    TorchLayout,
    rearrange,
    shape,
)
from pi0_jax.convert.keys.layout_copy import contiguous
from pi0_jax.convert.out.export_notes import notes, reference_note
from pi0_jax.convert.out.fold import Folded, fold_note
from pi0_jax.convert.out.torch_export import WRITERS, check
from pi0_jax.convert.sources.orbax_source import OrbaxSource, spec_of
from pi0_jax.convert.sources.source import ahead, parameters, progress_bar, tasks
from pi0_jax.data.normalize import load_norm_stats
from pi0_jax.io import tree_check
from pi0_jax.io.atomic import new_folder
from pi0_jax.io.metrics_writer import duration
from pi0_jax.io.place import check_space
from pi0_jax.policy.spec import PolicySpec
from pi0_jax.versions import versions

# RLinf has openpi's weights, and its statistics elsewhere.
LAYOUTS = {"openpi": OPENPI, "lerobot": LEROBOT, "transformers": TRANSFORMERS, "rlinf": OPENPI}
_VISION_LEVEL = ("vision_tower.", "vision_tower.vision_model.")

Written = list[tuple[str, np.ndarray]]
ExportJob = tuple[Leaf, int | None]


def main(argv: Sequence[str]) -> int:
    """Converts; returns the exit code."""
    parser = command.Parser("convert.flax_to_torch", description=__doc__)
    parser.add_argument("source", metavar="SRC", help="policy folder")
    parser.add_argument("destination", metavar="DST", type=command.path, help="folder to make")
    parser.add_argument("--layout", choices=LAYOUTS, required=True)
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier DST")
    arguments = parser.parse_args(argv)
    destination: Path = arguments.destination
    command.check_destination(arguments.source, destination, overwrite=arguments.overwrite)
    source = OrbaxSource(command.fetched(arguments.source))
    summary = export(source, destination, arguments.layout, overwrite=arguments.overwrite)
    sys.stdout.write(summary + "\n")
    return 0


def export(source: OrbaxSource, destination: Path, family: str, *, overwrite: bool) -> str:
    """Writes weights, config, statistics and a manifest.

    Args:
        source: a policy folder.
        destination: folder to make.
        family: one of `LAYOUTS`.
        overwrite: replace an earlier export.

    Returns:
        The summary to print, one line per fact.

    Raises:
        InputError: no policy folder, a layout that does not take a pi0.5, or a weight is not
            finite.
    """
    start, spec = time.monotonic(), spec_of(source)
    check(family, spec)
    stats = load_norm_stats(source.folder / "assets" / spec.asset_id / "norm_stats.json")
    dtype = lossless(source.info.dtypes)
    export_notes = notes(family, spec) + fold_note(source) + reference_note(source.folder)
    check_space(destination, parameters(spec.model) * np.dtype(dtype).itemsize, "the weights")
    # After an error nothing of the new folder is left, and an earlier export is as it was.
    with new_folder(destination, overwrite=overwrite) as folder:
        weights = folder / "model.safetensors"
        count = _write_weights(weights, source, LAYOUTS[family], dtype)
        WRITERS[family](folder, spec, stats, dtype)
        manifest: dict[str, Any] = {
            "made_by": "pi0_jax.convert.flax_to_torch",
            "source": str(source.folder),
            "layout": family,
            "files_sha256": {weights.name: sha256(weights)},
            "dtype": dtype,
            "notes": export_notes,
            "versions": versions(),
        }
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
        size = weights.stat().st_size
    rows = (
        ("layout", family),
        ("tensors", str(count)),
        ("bytes", f"{size:,}"),
        ("dtype", dtype),
        ("statistics", f"{len(stats.state.mean)} state, {len(stats.actions.mean)} action values"),
        ("time", duration(time.monotonic() - start)),
        *(("note", text) for text in export_notes),
        ("written", str(destination)),
    )
    return "\n".join(f"{name:<12}{text}" for name, text in rows)


def _write_weights(path: Path, source: OrbaxSource, layout: TorchLayout, dtype: str) -> int:
    """Writes model.safetensors tensor by tensor; returns the number of tensors.

    Raises:
        InputError: one list of all weights that are not finite.
    """
    spec, bad = spec_of(source), []
    # The file begins with every tensor's place, so all shapes must be known before the first.
    announced = dict(_announce(spec, layout, dtype))
    jobs = tasks(spec.model)
    with (
        SafetensorsWriter(path, announced, _heads(spec)) as writer,
        progress_bar(str(source.folder), len(jobs)) as progress,
    ):
        work = _worker(source, layout, dtype)
        for done, written in enumerate(ahead(work, jobs), 1):
            for key, values in written:
                bad += tree_check.not_finite([(key, values)])
                writer.write(key, values)
            progress.update(done)
        for key in layout.unused:
            # Zeros, because no forward pass reads it.
            if key in announced:
                writer.write(key, np.zeros(announced[key][1], np.dtype(announced[key][0])))
    if bad:
        tree_check.fail(source.folder, bad)
    return len(announced)


def _announce(
    spec: PolicySpec, layout: TorchLayout, dtype: str
) -> Iterator[tuple[str, tuple[str, tuple[int, ...]]]]:
    """Key, dtype and shape of every tensor, in the order in which they are written."""
    sizes = axis_sizes(spec.model)
    for leaf, i in tasks(spec.model):
        for tensor in leaf.tensors:
            for key in keys(layout, leaf, tensor, i or 0):
                yield key, (dtype, shape(tensor.axes, sizes))
    # The libraries report the action expert's word table as missing, though they never read it.
    head = next(iter(layout.unused))
    yield head, (dtype, (spec.model.vocab_size, spec.model.action.width))


def keys(layout: TorchLayout, leaf: Leaf, tensor: Tensor, layer: int) -> list[str]:
    """Names under which a library looks for a tensor.

    openpi stores the token embedding once, as its tied lm_head (what `save_model` writes).
    lerobot ties the two up to 0.4 and no longer from 0.5 on, so both names are written.
    """
    key = layout.key(tensor, layer)
    if layout.family != "transformers":
        key = key.replace(*_VISION_LEVEL)
    if leaf is not EMBEDDING or layout.lm_head is None:
        return [key]
    return [layout.lm_head] if layout.family == "openpi" else [layout.lm_head, key]


def _worker(source: OrbaxSource, layout: TorchLayout, dtype: str) -> Callable[[ExportJob], Written]:
    """Returns the function that reads one layer and converts it to PyTorch tensors."""
    sizes, folded = axis_sizes(source.info.config), Folded(source)

    def work(job: ExportJob) -> Written:
        """Runs in a thread: one layer, under every name that it has."""
        leaf, layer = job
        values = folded.read(leaf, layer)
        # Key and value, or gate and up, are stacked in our leaf: [2, ...] gives two tensors.
        parts = [values] if len(leaf.tensors) == 1 else list(values)
        found: Written = []
        for tensor, part in zip(leaf.tensors, parts, strict=True):
            turned = contiguous(rearrange(part, leaf.part_axes, tensor.axes, sizes), dtype)
            found += [(key, turned) for key in keys(layout, leaf, tensor, layer or 0)]
        return found

    return work


def _heads(spec: PolicySpec) -> dict[str, str]:
    """Head counts for the file's header, so that `TorchSource` can read the file again.

    A flat matrix does not show them. The libraries ignore the header.
    """
    model = spec.model
    return {
        "num_heads": str(model.num_heads),
        "num_kv_heads": str(model.num_kv_heads),
        "vision_heads": str(model.vision.num_heads),
    }
