"""Settings dataclasses from plain values (numbers, words, tuples, dicts by section), and back."""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pi0_jax.errors import InputError

T = TypeVar("T")

_FLOATS_END = 10**308  # beyond, a whole number cannot become a float
_WANTED = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a word",
    tuple: "a list",
}


def defaults(kind: type[Any]) -> dict[str, Any]:
    """Every default of a dataclass and of the dataclasses in it, section by section.

    A key without a default is left out: whoever starts from these values must set it.
    """
    hints, found = get_type_hints(kind), {}
    for entry in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[entry.name]):
            found[entry.name] = defaults(hints[entry.name])
        elif entry.default is not dataclasses.MISSING:
            found[entry.name] = entry.default
        elif entry.default_factory is not dataclasses.MISSING:
            found[entry.name] = entry.default_factory()
    return found


def build(section: str, kind: type[T], values: Mapping[str, Any]) -> T:
    """A settings dataclass from plain values, with the dataclasses in it.

    Args:
        section: of the config, for the message; "" for the whole of it.
        kind: the dataclass.
        values: field -> value, a mapping for a field that is a dataclass.

    Raises:
        InputError: no section, a key that is unknown or missing, or a value that is of another type
            or that `kind` refuses.
    """
    check_section(section, values)
    hints, known = get_type_hints(kind), dataclasses.fields(kind)  # type: ignore[arg-type]
    names = [entry.name for entry in known]
    for name in values:
        if name not in names:
            near = nearest(name, names)
            raise InputError(
                f"unknown config key {_key(section, name)}; the nearest valid key is "
                f"{_key(section, near)}"
            )
    for entry in known:
        needed = entry.default is entry.default_factory is dataclasses.MISSING
        if needed and entry.name not in values:
            raise InputError(f"config key {_key(section, entry.name)} is missing; set it")
    return kind(**{n: _value(_key(section, n), hints[n], value) for n, value in values.items()})


def check_section(key: str, value: object) -> None:
    """Checks that a value is a section of several keys.

    Raises:
        InputError: it is not.
    """
    if not isinstance(value, Mapping):
        raise InputError(f"config key {key} is a section of several keys, got {value!r:.80}")


def replaced(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values with some keys replaced, section by section.

    Raises:
        InputError: a section that `values` has is not one in `changes`, or the other way round.
    """
    result = dict(values)
    for name, change in changes.items():
        before = result.get(name)
        if isinstance(before, Mapping) != isinstance(change, Mapping) and name in result:
            raise InputError(f"config key {name!r} is a section of several keys, or is not")
        if isinstance(before, Mapping):
            change = replaced(before, change)
        # A whole number where a fraction was, as people write them.
        result[name] = float(change) if type(before) is float and type(change) is int else change
    return result


def nearest(name: str, names: Iterable[str]) -> str:
    """The name that a misspelt one most likely stands for."""
    return difflib.get_close_matches(name, list(names), n=1, cutoff=0.0)[0]


def dotted(values: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    """Every key of nested plain values, sections included, as in "rl.groups.group_size"."""
    for name, value in values.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{name}.")


def dotted_values(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested plain values by their keys, sections left out: "seed" -> 0."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= dotted_values(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def tuples(value: Any) -> Any:
    """Lists, which JSON and YAML have, as the tuples that settings hold."""
    if isinstance(value, Mapping):
        return {name: tuples(part) for name, part in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list | tuple) else value


def _key(section: str, name: str) -> str:
    return f"{section}.{name}" if section else name


def _value(key: str, kind: Any, value: Any) -> Any:
    """A value for a field of this type."""
    if dataclasses.is_dataclass(kind):
        if isinstance(kind, type) and isinstance(value, kind):
            return value
        return build(key, kind, value)  # type: ignore[arg-type]
    plain = get_origin(kind) or kind
    if plain in (UnionType, Union):
        arms = [arm for arm in get_args(kind) if arm is not NoneType]
        # What may be of several kinds is checked by the dataclass.
        return value if value is None or len(arms) > 1 else _value(key, arms[0], value)
    if plain is float and type(value) is int:
        # One that no float holds stays as it is, for its range to refuse.
        return float(value) if abs(value) < _FLOATS_END else value
    if plain is tuple:
        value = tuples(value)
    if plain is Mapping:
        check_section(key, value)
    if plain in _WANTED and not _is(plain, value):
        raise InputError(f"config key {key} must be {_WANTED[plain]}, got {value!r}")
    return _tuple(key, get_args(kind), value) if plain is tuple else value


def _tuple(key: str, kinds: tuple[Any, ...], value: tuple[Any, ...]) -> tuple[Any, ...]:
    """A tuple of any length of one kind, or of a kind per part."""
    if kinds[1:] == (Ellipsis,):
        kinds = kinds[:1] * len(value)
    if not kinds:
        return value
    if len(kinds) != len(value):
        raise InputError(f"config key {key} must be {len(kinds)} values, got {value!r}")
    pairs = enumerate(zip(kinds, value, strict=True))
    return tuple(_value(f"{key}.{i}", kind, part) for i, (kind, part) in pairs)


def _is(plain: type, value: Any) -> bool:
    # A bool is an int to Python, but not to a person.
    return isinstance(value, plain) and (type(value) is not bool or plain is bool)
