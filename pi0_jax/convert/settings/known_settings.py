"""Checks every setting of a foreign file: it is read, harmless for a stated reason, or an error."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pi0_jax.convert.settings.kinds import Kind, misfits
from pi0_jax.errors import InputError


@dataclass(frozen=True)
class Known:
    """What is known of the settings of one kind of file.

    Attributes:
        read: setting that the caller reads to the kind of its values.
        needed: settings that have to be there.
        fixed: setting to the values that mean what pi0_jax computes; any other is an error.
        harmless: setting to the reason why it changes nothing that a converted policy does.
    """

    read: Mapping[str, Kind] = field(default_factory=dict)
    needed: tuple[str, ...] = ()
    fixed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    harmless: Mapping[str, str] = field(default_factory=dict)


def problems(values: Mapping[str, Any], known: Known, part: str = "") -> list[str]:
    """What is wrong with the settings of a file, one text each.

    Args:
        values: setting to its value.
        known: what is known of them.
        part: where in the file they stand, as a prefix such as "dit_config.".
    """
    found = [f"{part}{name} is missing" for name in known.needed if values.get(name) is None]
    found += misfits(values, known.read, part)
    for name, value in values.items():
        allowed = known.fixed.get(name)
        if allowed is not None and not any(_same(value, each) for each in allowed):
            found.append(f"{part}{name} is {value!r}, pi0_jax computes {allowed[0]!r}")
        elif allowed is None and name not in known.read and name not in known.harmless:
            found.append(f"{part}{name} ({value!r:.40}) is unknown")
    return found


def fail(where: object, found: list[str]) -> None:
    """One error for all problems, if there are any.

    Raises:
        InputError: `found` is not empty.
    """
    if found:
        raise InputError(
            f"{where}: settings that could change what the policy does: {'; '.join(found)}; "
            "take out what does not, in a copy"
        )


def _same(value: Any, wanted: Any) -> bool:
    # 1 == True in Python; a file that says one does not mean the other.
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    return value == wanted
