"""Whether a run may go on with a config: what its results depend on must be as before.

Everything else may change from one part of a run to the next: the machine, its memory, where files
lie whose content is known, and what is logged.
"""

from collections.abc import Mapping
from typing import Any

from pi0_jax.plain_values import dotted_values

FREE = (
    *("pool.engine", "pool.address", "pool.workers", "pool.timeout_s"),
    *("hardware.data", "hardware.fsdp", "hardware.micro_batches", "hardware.memory_gb"),
    *("hardware.remat", "hardware.attention"),
    *("compilation_cache", "wandb_project", "verbosity", "eval.videos"),
    *("checkpoints.keep", "checkpoints.every"),
    *("demonstrations.allow", "demonstrations.cache", "demonstrations.cache_gb"),
)
"""Keys that change no result. All are checked like others."""

LABELS = "labels_digest"
"""Of demonstrations: their words and outcomes (`data/lerobot/folder.py`)."""

# Path -> digest of what lies there; with the same digest the path may be another.
_CONTENT = {
    "checkpoint": "checkpoint_digest",
    "reference": "reference_digest",
    "init.checkpoint": "init_digest",
    "demonstrations.lerobot": "demonstrations_digest",
    "init.statistics": "statistics_digest",
}


def changes(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    defaults: Mapping[str, Any],
    also_free: tuple[str, ...] = (),
) -> tuple[dict[str, str], dict[str, str]]:
    """What differs between the config of a run and that of its continuation.

    Args:
        before: plain values by section, as they were stored.
        after: plain values now, as JSON has them.
        defaults: plain values that a key has which an earlier version did not know.
        also_free: keys that may change here besides `FREE`; of rules, the rates alone.

    Returns:
        What must not change, and what may: key -> "before -> now" for a message.
    """
    old, new, known = (dotted_values(values) for values in (before, after, defaults))
    # Digests that an earlier version did not store say nothing.
    known |= {key: new.get(key) for key in (*_CONTENT.values(), LABELS)}
    refused: dict[str, str] = {}
    allowed: dict[str, str] = {}
    for key in [*new, *(key for key in old if key not in new)]:
        was = old[key] if key in old else known.get(key)
        now = new.get(key)
        if was == now:
            continue
        free = key in FREE or (key in also_free and _same_frozen(key, was, now))
        kind = allowed if free or _same_content(key, old, new) else refused
        kind[key] = f"{was!r} -> {now!r}"
    return refused, allowed


def without_places(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values by dotted key, without paths to something whose digest is among them."""
    found = dotted_values(values)
    known = {place for place, digest in _CONTENT.items() if found.get(digest) is not None}
    return {key: value for key, value in found.items() if key not in known}


def _same_frozen(key: str, was: Any, now: Any) -> bool:
    """Whether the rules of an optimizer freeze the same: a checkpoint has what is trained."""
    if not key.endswith(".rules"):
        return True
    old, new = ([(regex, rate == 0) for regex, rate in rules or ()] for rules in (was, now))
    return old == new


def _same_content(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    digest = _CONTENT.get(key, "")
    return old.get(digest) is not None and old.get(digest) == new.get(digest)
