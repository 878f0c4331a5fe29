"""Whether a run that was interrupted ended as the unbroken one did: bit for bit, without clocks."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pi0_jax.io.metrics_writer import read_metrics
from pi0_jax.io.orbax_tree import TreeReader
from pi0_jax.rollout.policy_use import USE

# What depends on the machine, its load, and which process did which part of the work.
_CLOCKS = ("time", "elapsed", "env_steps_per_s", "episodes_per_min", "host_peak_gb", *USE)
# Their lines tell how fast the process was that made episodes or a checkpoint.
_SPEED = ("eval", "checkpoint")
_STORE = ("params", "state")  # folders of TensorStore, which draws the names of its files
# Bytes that depend on clocks or on the names that TensorStore draws.
_OF_THEIR_TIME = ("metrics.jsonl", "report.html", "digests.json", "manifest.json", "config.json")
_VIDEO = ".mp4"  # the encoder's bytes differ from run to run


def differences(wanted: Path, found: Path) -> list[str]:
    """What differs between two folders of runs, policies or results; empty if nothing does."""
    names, other = set(_names(wanted)), set(_names(found))
    said = [f"missing {name}" for name in sorted(names - other)]
    said += [f"left over {name}" for name in sorted(other - names)]
    for name in sorted(names & other):
        if not _equal(wanted / name, found / name):
            said.append(f"differs {name}")
    return said


def _names(folder: Path) -> Iterator[str]:
    """Files, and the folders of TensorStore as one each."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        inside = [part for part in name.parts[:-1] if part in _STORE]
        if not inside and (path.is_file() or path.name in _STORE or not any(path.iterdir())):
            yield str(name)


def _equal(wanted: Path, found: Path) -> bool:
    if wanted.name in _STORE:
        return _same_arrays(TreeReader(wanted).read_all(), TreeReader(found).read_all())
    if wanted.name == "metrics.jsonl":
        return _lines(wanted) == _lines(found)
    if wanted.name in ("config.json", "host.json"):
        return _without_names(wanted) == _without_names(found)
    if wanted.name in _OF_THEIR_TIME or wanted.suffix == _VIDEO:
        return True
    return wanted.read_bytes() == found.read_bytes()


def _same_arrays(wanted: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> bool:
    if wanted.keys() != found.keys():
        return False
    return all(_bits(wanted[name]) == _bits(found[name]) for name in wanted)


def _bits(array: np.ndarray) -> tuple[Any, ...]:
    return array.shape, array.dtype, array.tobytes()


def _lines(path: Path) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in line.items() if k not in _CLOCKS and not k.startswith("seconds_")}
        for line in read_metrics(path)
        if line["phase"] not in _SPEED
    ]


def _without_names(path: Path) -> Any:
    """What a run remembers, but for its name and the command that began it."""
    values = json.loads(path.read_text())
    for name in ("command", "run"):
        values.pop(name, None)
    # A setting that results do not depend on, and that some cases set.
    values.get("config", {}).pop("pool", None)
    return values
