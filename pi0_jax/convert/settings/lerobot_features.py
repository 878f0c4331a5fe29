"""Features of a lerobot policy: its cameras, and the widths of its state and actions."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pi0_jax.errors import InputError

STATE, ACTION = "observation.state", "action"
# What comes before a camera's name; the longest that fits is cut off.
_FIXED = ("observation.images.", "observation.image.", "observation.")
# A placeholder for a camera that the robot lacks; here such a camera is absent.
_EMPTY = "empty_camera"
TYPES = ("VISUAL", "STATE", "ACTION", "ENV", "REWARD", "LANGUAGE")


@dataclass(frozen=True)
class Features:
    """What a policy takes and gives.

    Attributes:
        cameras: names in order.
        state: declared width of the raw state; None if not declared.
        action: declared width of the raw action; None if not declared.
    """

    cameras: tuple[str, ...]
    state: int | None
    action: int | None


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
    for name, feature in (inputs | outputs).items():
        if feature["type"] not in TYPES:
            raise InputError(f"{path}: feature {name} of unknown type {feature['type']!r}")
        if feature["type"] == "VISUAL" and 3 not in feature["shape"]:
            raise InputError(f"{path}: {name} of shape {feature['shape']} is no colour image")
    visual = [name for name, feature in inputs.items() if feature["type"] == "VISUAL"]
    visual = [name for name in visual if not name.rpartition(".")[2].startswith(_EMPTY)]
    cameras = tuple(camera_name(_robots(name, rename, path)) for name in visual)
    # Without any feature (old files, or not filled in) nothing is declared.
    if inputs and not cameras:
        raise InputError(
            f"{path}: expected a feature of type VISUAL among input_features, found "
            f"{', '.join(inputs)}"
        )
    if len(set(cameras)) < len(cameras):
        raise InputError(f"{path}: {', '.join(visual)} are cameras of the same name; rename one")
    strange = [new for new in rename.values() if new not in (*visual, STATE)]
    strange = [new for new in strange if not new.rpartition(".")[2].startswith(_EMPTY)]
    if strange:
        raise InputError(
            f"{path}: observations are renamed to {', '.join(strange)}, which the policy does not "
            "read"
        )
    return Features(cameras, _width(inputs, STATE, "STATE", path), _action(outputs, path))


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
    return _width(outputs, ACTION, "ACTION", path)


def _width(features: Mapping[str, Any], name: str, kind: str, path: Path) -> int | None:
    feature = features.get(name)
    if feature is None:
        return None
    # A vector: "shape": [width]
    if feature["type"] != kind or len(feature["shape"]) != 1:
        raise InputError(f"{path}: expected {name} to be a {kind} vector, found {feature}")
    return int(feature["shape"][0])
