"""What differs between two policies beside their weights, by name."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from pi0_jax.convert.commands.as_policy import AsPolicy

# The weights' dtype stands in the report already; a name of statistics changes nothing.
_OF_NO_MATTER = ("model.compute_dtype", "asset_id")
# float32, in which lerobot keeps statistics.
_ROUNDING = 1e-6


def differences(a: AsPolicy, b: AsPolicy) -> list[dict[str, Any]]:
    """Settings and statistics that are not the same, as {"what": name, "a": value, "b": value}."""
    settings = [dict(_flat("", asdict(policy.spec))) for policy in (a, b)]
    names = [name for name in settings[0] | settings[1] if name not in _OF_NO_MATTER]
    found = [
        {"what": name, "a": settings[0].get(name), "b": settings[1].get(name)}
        for name in names
        if settings[0].get(name) != settings[1].get(name)
    ]
    return found + list(_statistics(a, b))


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Dotted names of plain values; the dimensions of a robot become one list per property."""
    if isinstance(value, dict):
        for key, inside in value.items():
            yield from _flat(f"{name}.{key}" if name else key, inside)
    elif isinstance(value, tuple) and value and isinstance(value[0], dict):
        for key in value[0]:
            yield f"{name}.{key}", [entry[key] for entry in value]
    else:
        yield name, list(value) if isinstance(value, tuple) else value


def _statistics(a: AsPolicy, b: AsPolicy) -> Iterator[dict[str, Any]]:
    """Those that one of the policies reads, in the dimensions of its robot."""
    quantile = {policy.spec.quantile for policy in (a, b)}
    used = ("mean", "std") * (False in quantile) + ("q01", "q99") * (True in quantile)
    for kind in ("state", "actions"):
        for field in used:
            x, y = (_values(policy, kind, field) for policy in (a, b))
            if not _same(x, y):
                yield {"what": f"statistics.{kind}.{field}", "a": x, "b": y}


def _values(policy: AsPolicy, kind: str, field: str) -> list[float] | None:
    width = len(getattr(policy.spec.robot, kind))
    values = getattr(getattr(policy.found.stats, kind), field)
    return None if values is None else values[:width].tolist()


def _same(a: list[float] | None, b: list[float] | None) -> bool:
    if a is None or b is None:
        return a is b
    return len(a) == len(b) and bool(np.allclose(a, b, rtol=_ROUNDING, atol=0))
