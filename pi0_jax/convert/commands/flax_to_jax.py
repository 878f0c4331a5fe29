"""Policy folder -> official Orbax checkpoint, which openpi's own server runs.

python -m convert.flax_to_jax SRC DST [--overwrite]

A policy folder looks like such a checkpoint already, and openpi's loader takes it. But it leaves
out `cond_embed` without a word, so a policy that was improved with outcomes would act as if it had
no condition. Here the condition is folded into a bias (`fold.py`).
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pi0_jax.convert.commands import command
from pi0_jax.convert.into.write_params import lossless, write_params
from pi0_jax.convert.out.export_notes import notes, reference_note
from pi0_jax.convert.out.fold import Folded, fold_note
from pi0_jax.convert.sources.orbax_source import OrbaxSource, spec_of
from pi0_jax.convert.sources.source import parameters
from pi0_jax.data.normalize import load_norm_stats, save_norm_stats
from pi0_jax.io.atomic import new_folder
from pi0_jax.io.metrics_writer import duration
from pi0_jax.io.place import check_space
from pi0_jax.policy.folder import PARAMS
from pi0_jax.versions import versions


def main(argv: Sequence[str]) -> int:
    """Converts; returns the exit code."""
    parser = command.Parser("convert.flax_to_jax", description=__doc__)
    parser.add_argument("source", metavar="SRC", help="policy folder")
    parser.add_argument("destination", metavar="DST", type=command.path, help="folder to make")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier DST")
    arguments = parser.parse_args(argv)
    destination: Path = arguments.destination
    command.check_destination(arguments.source, destination, overwrite=arguments.overwrite)
    source = OrbaxSource(command.fetched(arguments.source))
    sys.stdout.write(export(source, destination, overwrite=arguments.overwrite) + "\n")
    return 0


def export(source: OrbaxSource, destination: Path, *, overwrite: bool) -> str:
    """Writes params/, assets/ and a manifest.

    Args:
        source: a policy folder.
        destination: folder to make.
        overwrite: replace an earlier export.

    Returns:
        The summary to print, one line per fact.

    Raises:
        InputError: no policy folder, or a weight is not finite.
    """
    start, spec = time.monotonic(), spec_of(source)
    statistics = Path("assets") / spec.asset_id / "norm_stats.json"
    stats = load_norm_stats(source.folder / statistics)
    dtype, count = lossless(source.info.dtypes), parameters(spec.model)
    export_notes = notes("openpi", spec) + fold_note(source) + reference_note(source.folder)
    check_space(destination, count * np.dtype(dtype).itemsize, "the parameters")
    with new_folder(destination, overwrite=overwrite) as folder:
        title = str(source.folder)
        write_params(folder / PARAMS, Folded(source), dtype, title, condition=False)
        save_norm_stats(folder / statistics, stats)
        manifest: dict[str, Any] = {
            "made_by": "pi0_jax.convert.flax_to_jax",
            "source": str(source.folder),
            "layout": "openpi orbax",
            "dtype": dtype,
            "notes": export_notes,
            "versions": versions(),
        }
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    rows = (
        ("layout", "openpi orbax"),
        ("parameters", f"{count:,}"),
        ("dtype", dtype),
        ("statistics", str(statistics)),
        ("time", duration(time.monotonic() - start)),
        *(("note", text) for text in export_notes),
        ("written", str(destination)),
    )
    return "\n".join(f"{name:<12}{text}" for name, text in rows)
