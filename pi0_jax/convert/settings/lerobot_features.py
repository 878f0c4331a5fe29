"""Features of a lerobot policy: its cameras, and the widths of its state and actions."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pi0_jax.convert.settings.kinds import SHAPE, TEXT
from pi0_jax.convert.settings.known_settings import Known, fail, problems
from pi0_jax.errors import InputError

STATE, ACTION = "observation.state", "action"
_STATES = (STATE, "observation.environment_state")  # by lerobot's own names
# What comes before a camera's name; the longest that fits is cut off.
_FIXED = ("observation.images.", "observation.image.", "observation.")
# A placeholder for a camera that the robot lacks; here such a camera is absent.
_EMPTY = re.compile(r"(.*\.)?empty_camera_(?P<number>\d+)")
_FEATURE = Known(read={"type": TEXT, "shape": SHAPE}, needed=("type", "shape"))
TYPES = ("VISUAL", "STATE", "ACTION", "ENV", "REWARD", "LANGUAGE")


@dataclass(frozen=True)
class Features:
    """What a policy takes and gives.

    Attributes:
        cameras: names in order.
        state: declared width of the raw state; None if not declared.
        action: declared width of the raw action; None if not declared.
        notes: what the user should know, one text each.
    """

    cameras: tuple[str, ...]
    state: int | None
    action: int | None
    notes: tuple[str, ...] = ()


def read_features(values: Mapping[str, Any], rename: Mapping[str, str], path: Path) -> Features:
    """Reads input_features and output_features of a config.json.

    lerobot's policies read images by type VISUAL, in this order, whatever their names; of the
    other features they read `observation.state` and `action` only.

    Args:
        values: content of the config.json.
        rename: what the robot calls a feature to what the policy calls it.
        path: the file, for messages.

    Raises:
        InputError: an unknown type, no camera or one without colours, two of one name, or a
            renamed feature that the policy does not read.
    """
    inputs, outputs = values.get("input_features") or {}, values.get("output_features") or {}
    for part, features in (("input_features", inputs), ("output_features", outputs)):
        for name, feature in features.items():
            fail(path, problems(feature, _FEATURE, f"{part}.{name}."))
    for name, feature in (inputs | outputs).items():
        if feature["type"] not in TYPES:
            raise InputError(f"{path}: feature {name} of unknown type {feature['type']!r}")
        if feature["type"] == "VISUAL" and 3 not in feature["shape"]:
            raise InputError(f"{path}: {name} of shape {feature['shape']} is no colour image")
    visual = [name for name, feature in inputs.items() if feature["type"] == "VISUAL"]
    empty = [name for name in visual if is_placeholder(name)]
    visual = [name for name in visual if name not in empty]
    _check_rename(rename, visual, path)
    cameras = tuple(camera_name(_robots(name, rename, path)) for name in visual)
    # Without any feature (old files, or not filled in) nothing is declared.
    if inputs and not cameras:
        raise InputError(
            f"{path}: expected a feature of type VISUAL among input_features, found "
            f"{', '.join(inputs)}"
        )
    if len(set(cameras)) < len(cameras):
        raise InputError(f"{path}: {', '.join(visual)} are cameras of the same name; rename one")
    return Features(
        cameras,
        vector_width(inputs, STATE, "STATE", path),
        _action(outputs, path),
        _empty_note(empty, values.get("empty_cameras") or 0),
    )


def is_placeholder(camera: str) -> bool:
    """Whether lerobot gives this name to a camera that is not there: empty_camera_0, and so on."""
    return _EMPTY.fullmatch(camera) is not None


def _empty_note(empty: Sequence[str], count: int) -> tuple[str, ...]:
    """Says it where a camera has a placeholder's name and `empty_cameras` does not count it."""
    more = [name for name in empty if int(name.rpartition("_")[2]) >= count]
    if not more:
        return ()
    return (
        f"{', '.join(more)}: taken for cameras that are not there, as lerobot names them, though "
        f"empty_cameras is {count}; if the robot has them, name all its cameras: --cameras A,B",
    )


def _check_rename(rename: Mapping[str, str], visual: Sequence[str], path: Path) -> None:
    """Checks that a renamed observation becomes one that the policy reads, of the same type.

    Raises:
        InputError: it does not.
    """
    if strange := [new for new in rename.values() if new not in (*visual, STATE)]:
        raise InputError(
            f"{path}: observations are renamed to {', '.join(strange)}, which the policy does not "
            "read"
        )
    for old, new in rename.items():
        if (old in _STATES and new != STATE) or (new == STATE and _is_image(old, visual)):
            raise InputError(
                f"{path.parent}: rename_map makes {new} of {old}; a state is no camera, take this "
                "out in a copy"
            )
    states = [old for old, new in rename.items() if new == STATE]
    if len(states) > 1:
        raise InputError(f"{path}: {', '.join(states)} are all renamed to {STATE}")


def _is_image(name: str, visual: Sequence[str]) -> bool:
    return name in visual or name.startswith(("observation.image.", "observation.images."))


def camera_name(feature: str) -> str:
    """Name after the last fixed part.

    >>> camera_name("observation.images.top"), camera_name("observation.wrist_image")
    ('top', 'wrist_image')
    """
    for fixed in _FIXED:
        if feature.startswith(fixed):
            return feature.removeprefix(fixed)
    return feature


def _robots(name: str, rename: Mapping[str, str], path: Path) -> str:
    """What the robot calls a feature of the policy."""
    old = [source for source, target in rename.items() if target == name]
    if len(old) > 1:
        raise InputError(f"{path}: {', '.join(old)} are all renamed to {name}")
    return old[0] if old else name


def _action(outputs: Mapping[str, Any], path: Path) -> int | None:
    extra = [name for name in outputs if name != ACTION]
    if extra:
        raise InputError(f"{path}: expected the output {ACTION} only, found {', '.join(outputs)}")
    return vector_width(outputs, ACTION, "ACTION", path)


def vector_width(features: Mapping[str, Any], name: str, kind: str, path: Path) -> int | None:
    """The width that a feature declares; None if there is no such feature.

    Args:
        features: name to type and shape.
        name: of the feature.
        kind: the type that it must have.
        path: the file, for messages.

    Raises:
        InputError: it is of another type, or no vector.
    """
    feature = features.get(name)
    if feature is None:
        return None
    fail(path, problems(feature, _FEATURE, f"{name}."))
    # A vector: "shape": [width]
    if feature["type"] != kind or len(feature["shape"]) != 1:
        raise InputError(f"{path}: expected {name} to be a {kind} vector, found {feature}")
    return feature["shape"][0]
