"""Reads a run folder, whole or not, and sums up its results in a sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pi0_jax.errors import InputError
from pi0_jax.io.metrics_writer import read_metrics
from pi0_jax.json_file import read_value
from pi0_jax.report.held_out import HELD_OUT_FOLDER, held_out_lines
from pi0_jax.run.paired import Paired, paired_from_dict
from pi0_jax.run.success import Row, guidance_text, pool_tasks, row_from_dict

_NAMES = {"base": "base", "sft": "SFT", "ript": "RIPT", "continued_sft": "continued SFT"}
_NAMES |= {"filtered_bc": "filtered BC", "": "run"}
# Methods that the main method is compared with.
_CONTROLS = ("base", "continued_sft", "filtered_bc")


@dataclass(frozen=True)
class RunData:
    """A run folder in memory; what is missing is empty.

    Attributes:
        path: the folder.
        config: config.json.
        metrics: lines of metrics.jsonl.
        protocol: how the results were measured.
        rows: measured success rates.
        paired: guidance scales compared on the same initial states.
        videos: entries {"file", "title", "state", "method", "guidance", "outcome", "caption"}
            whose file exists; those of one state are shown side by side.
        frames: the same of rows of pictures.
        missing: names of the parts that do not exist yet.
        held_out: lines of metrics.jsonl about held-out episodes; a fine-tuning has them.
        predictions: content of held_out/episodes.json.
    """

    path: Path
    config: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    protocol: Mapping[str, Any]
    rows: Sequence[Row]
    paired: Sequence[Paired]
    videos: Sequence[Mapping[str, Any]]
    frames: Sequence[Mapping[str, Any]]
    missing: Sequence[str]
    held_out: Sequence[Mapping[str, Any]] = ()
    predictions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        """All methods that were trained or evaluated, in order of appearance."""
        trained = [str(line.get("method") or "") for line in self.metrics]
        return list(dict.fromkeys([*trained, *(row.method for row in self.rows)]))


def read_run(run_dir: Path) -> RunData:
    """Reads a run folder, whole or interrupted.

    Raises:
        InputError: the folder does not exist, or a file in it is not what its name says.
    """
    if not run_dir.is_dir():
        raise InputError(f"{run_dir}: expected a run folder, but it does not exist")
    results = _read_json(run_dir / "results.json", {})
    # The keys are the words in which the page lists what is missing.
    parts = {
        "settings (config.json)": _read_json(run_dir / "config.json", {}),
        "learning curves (metrics.jsonl)": read_metrics(run_dir / "metrics.jsonl"),
        "success rates (results.json)": [row_from_dict(row) for row in results.get("rows", [])],
        "videos (videos/*.mp4)": _media(run_dir / "videos", "*.mp4"),
    }
    config, metrics, rows, videos = parts.values()
    predicted = _read_json(run_dir / HELD_OUT_FOLDER / "episodes.json", {})
    held_out = held_out_lines(metrics)
    # A fine-tuning has neither successes nor videos.
    expected = [*parts][:2] if held_out else [*parts]
    return RunData(
        path=run_dir,
        config=config,
        metrics=metrics,
        protocol=results.get("protocol", {}),
        rows=rows,
        paired=[paired_from_dict(entry) for entry in results.get("paired", [])],
        videos=videos,
        frames=_media(run_dir / "frames", "*.png"),
        missing=[name for name in expected if not parts[name]],
        held_out=held_out,
        predictions=predicted,
    )


def method_name(method: str) -> str:
    """The name of a method as it is written in text."""
    return _NAMES.get(method, method.replace("_", " "))


def main_method(methods: Sequence[str]) -> str | None:
    """The method that the run is about: "ript", or the first that is no control."""
    # A run of controls alone shows the last of them, which was trained last.
    if "ript" in methods:
        return "ript"
    return next(
        (method for method in methods if method not in _CONTROLS), methods[-1] if methods else None
    )


def at_one_scale(rows: Sequence[Row]) -> list[Row]:
    """One row for each (phase, method), tasks added up, all at one guidance scale.

    The scale is 1, the plain conditional policy, if it was measured, else the smallest, from the
    reference that was measured first. Choosing each method's best afterwards would favour the
    methods that have several.
    """
    scales = sorted({row.guidance for row in rows if row.guidance is not None})
    scale = 1.0 if 1.0 in scales else (scales[0] if scales else None)
    found: dict[tuple[str, str], Row] = {}
    for row in pool_tasks(rows):
        if row.guidance in (None, scale):
            found.setdefault((row.phase, row.method), row)
    return list(found.values())


def outcome(rows: Sequence[Row]) -> str:
    """The result in one or two sentences with intervals.

    It claims a difference only where the intervals of base and main method do not overlap.
    """
    pooled = at_one_scale(rows)
    if not pooled:
        return "No evaluation has finished yet."
    base = next((row for row in pooled if row.method == "base"), None)
    method = main_method([row.method for row in pooled if row.method != "base"])
    # The latest phase of the method counts: an evaluation after training, if there is one.
    after = next((row for row in reversed(pooled) if row.method == method), None)
    if base is None or after is None:
        row = after or base or pooled[0]
        return (
            f"{_capital(method_name(row.method))} succeeds in {rate_text(row)} of {_amount(row)}."
        )
    others = [row for row in pooled if row.method not in ("base", method)]
    known = ", ".join(f"{method_name(row.method)} {rate_text(row)}" for row in others)
    return _compared(base, after) + (f" For comparison: {known}." if known else "")


def rate_text(row: Row) -> str:
    """A rate with its interval: "33 % [27, 40]"."""
    if not row.episodes:
        return "an unknown share"
    low, high = 100 * row.wilson_low, 100 * row.wilson_high
    return f"{100 * row.rate:.0f}\u202f% [{low:.0f}, {high:.0f}]"


def _compared(base: Row, after: Row) -> str:
    # Intervals that do not overlap: a strict test, which needs no choice of level.
    higher, lower = after.wilson_low > base.wilson_high, after.wilson_high < base.wilson_low
    verb = "lifted" if higher else "lowered" if lower else "moved"
    name = _capital(method_name(after.method))
    sentence = f"{name} {verb} success from {rate_text(base)} to {rate_text(after)}"
    sentence += f" on {after.episodes} initial states"
    sentence += _at(after)
    doubt = "" if higher or lower else "; the intervals overlap, so this is no clear difference"
    return f"{sentence}{doubt}."


def _amount(row: Row) -> str:
    return f"{row.episodes} episodes of {row.task}{_at(row)}"


def _at(row: Row) -> str:
    told = guidance_text(row.guidance, row.reference)
    return f", at guidance {told}" if told else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _read_json(path: Path, default: Any) -> Any:
    if not path.exists():
        return default
    value = read_value(path)
    if not isinstance(value, type(default)):
        raise InputError(f"{path}: expected a JSON {type(default).__name__}")
    return value


def _media(folder: Path, pattern: str) -> list[Mapping[str, Any]]:
    """Entries of the folder's index.json, or one entry per file if there is no index."""
    names = sorted(file.name for file in folder.glob(pattern) if not file.name.startswith("."))
    bare = [{"file": name, "title": Path(name).stem} for name in names]
    index = _read_json(folder / "index.json", [])
    # A file outside the folder, or not written yet, would be a dead link in the page.
    entries = [entry for entry in index or bare if isinstance(entry, Mapping)]
    return [entry for entry in entries if entry.get("file") in names]
