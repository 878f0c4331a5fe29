"""Config keys of earlier versions: each answers with its new name."""

from collections.abc import Mapping
from typing import Any

from pi0_jax.errors import InputError
from pi0_jax.plain_values import dotted

# Old key or section -> new name; of several that fit, the longest decides. Keys below a renamed
# section move with it.
NEW_NAMES = {
    "eval.num_steps": "eval.num_flow_steps",
    "rl.condition": "rl.branch_mode",
    "rl.loss": "rl.cfg",
    "rl.loss.branch_dropout": "rl.cfg_dropout.probability (with rl.objective=cfg_dropout)",
    "rl.loss.time_samples": "rl.time_samples",
    "rl.sampling": "rl.groups",
    "rl.sampling.groups_per_step": "rl.groups.groups_per_iteration",
    "rl.updates_per_step": "rl.updates_per_iteration",
    "task.expert": "task.demonstrator",
}


def new_name(key: str) -> str | None:
    """The new name of an old key; None for a key that is not old."""
    found = [old for old in NEW_NAMES if key == old or key.startswith(f"{old}.")]
    if not found:
        return None
    old = max(found, key=len)
    return NEW_NAMES[old] + key.removeprefix(old)


def check_old_keys(values: Mapping[str, Any]) -> None:
    """Checks that no key of a config is one of an earlier version.

    Args:
        values: the config as plain values; its baselines hold keys of `rl`.

    Raises:
        InputError: an old key; the message has its new name.
    """
    keys = [*dotted(values)]
    baselines = values.get("baselines")
    # What is no section has no keys; whoever reads it says so.
    for changes in baselines.values() if isinstance(baselines, Mapping) else ():
        keys += dotted({"rl": changes})
    # Deepest first: an old key gives a more exact message than the section around it.
    for key in sorted(keys, key=lambda key: -key.count(".")):
        if name := new_name(key):
            raise InputError(f"config key {key} is now {name}")
