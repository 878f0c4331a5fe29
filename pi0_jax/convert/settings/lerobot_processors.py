"""policy_preprocessor.json and policy_postprocessor.json of lerobot 0.4 and later.

They, and not config.json, are what lerobot runs. Every step and each of its settings is read, has a
known value, is known to be harmless, or is an error; so is the order of the steps where it matters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pi0_jax.convert.settings.declared import StoredStats
from pi0_jax.convert.settings.kinds import (
    BOOL,
    NUMBER,
    OBJECT,
    OBJECTS,
    OF_OBJECTS,
    OF_TEXTS,
    TEXT,
    TEXTS,
    WHOLE,
)
from pi0_jax.convert.settings.known_settings import Known, fail, problems
from pi0_jax.convert.settings.lerobot_features import ACTION, STATE, TYPES, vector_width
from pi0_jax.convert.settings.lerobot_relative import Relative
from pi0_jax.convert.settings.lerobot_state_file import read_state_file
from pi0_jax.convert.settings.stored_stats import same_actions, stats_from
from pi0_jax.errors import InputError
from pi0_jax.json_file import read_object

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
RENAME, BATCH, DEVICE = "rename_observations_processor", "to_batch_processor", "device_processor"
NEW_LINE, STATE_TEXT = "pi0_new_line_processor", "pi05_prepare_state_tokenizer_processor_step"
TOKENIZER = "tokenizer_processor"
NORMALIZER, UNNORMALIZER = "normalizer_processor", "unnormalizer_processor"
RELATIVE, ABSOLUTE = "relative_actions_processor", "absolute_actions_processor"
# What lerobot 0.5.1 calls the step that 0.6 calls RELATIVE.
_OTHER_NAMES = {"delta_actions_processor": RELATIVE}

_NORMALIZE = Known(
    read={
        "features": OF_OBJECTS,
        "norm_map": OF_TEXTS,
        "eps": NUMBER,
        "normalize_observation_keys": TEXTS,
    },
    needed=("features", "norm_map"),
    harmless={"device": "where it is computed", "dtype": "of the statistics"},
)
_STEPS: dict[str, Known] = {
    RENAME: Known(read={"rename_map": OF_TEXTS}),
    BATCH: Known(),
    # A cast to two bytes would round images and states.
    DEVICE: Known(
        fixed={"float_dtype": (None, "float32")}, harmless={"device": "where it is computed"}
    ),
    NEW_LINE: Known(),
    STATE_TEXT: Known(read={"max_state_dim": WHOLE}, fixed={"task_key": ("task",)}),
    TOKENIZER: Known(
        read={"max_length": WHOLE, "tokenizer_name": TEXT},
        needed=("max_length",),
        fixed={"task_key": ("task",), "padding_side": ("right",), "padding": ("max_length",)},
        harmless={"truncation": "a prompt that is too long is an error here"},
    ),
    NORMALIZER: _NORMALIZE,
    UNNORMALIZER: _NORMALIZE,
    RELATIVE: Known(read={"enabled": BOOL, "exclude_joints": TEXTS, "action_names": TEXTS}),
    ABSOLUTE: Known(read={"enabled": BOOL}),
}
_PRE = {False: (NEW_LINE, TOKENIZER, NORMALIZER), True: (NORMALIZER, STATE_TEXT, TOKENIZER)}
"""Whether it is a pi0.5 -> the steps that its preprocessor must have, in this order."""

# A larger one would show in what is normalised: ours is 1e-6, as openpi's.
_LARGEST_EPS = 1e-6
_MODES = ("STATE", "ACTION", "VISUAL")

_FILE = Known(read={"name": TEXT, "steps": OBJECTS}, needed=("steps",))
_STEP = Known(read={"registry_name": TEXT, "config": OBJECT})
_STEP_WITH_STATE = Known(read={**_STEP.read, "state_file": TEXT})

Step = dict[str, Any]
Steps = dict[str, Step]


@dataclass(frozen=True)
class Processors:
    """What the two files say.

    Attributes:
        modes: step (normalizer, unnormalizer) to its mode per kind of feature.
        statistics: of the raw state and of the actions; None if the files name none.
        state_dim: width of the state that is normalised.
        action_dims: step (normalizer, unnormalizer) to the width of its actions; None if it has
            none.
        rename: what the robot calls an observation to what the policy calls it.
        prompt_length: prompt tokens, padding included.
        state_text_width: width to which lerobot 0.4 pads a state before it becomes text; None if
            the files do not say.
        relative: relative actions; None before lerobot 0.5.1.
    """

    modes: Mapping[str, Mapping[str, str]]
    statistics: StoredStats | None
    state_dim: int | None
    action_dims: Mapping[str, int | None]
    rename: Mapping[str, str]
    prompt_length: int
    state_text_width: int | None
    relative: Relative | None


def read(folder: Path, *, pi05: bool) -> Processors | None:
    """Reads both files of a folder; None if it has neither.

    Args:
        folder: of a policy.
        pi05: whether the policy is a pi0.5.

    Raises:
        InputError: only one file is there or it cannot be read, a step or setting is unknown,
            missing, twice or out of order, or the two files contradict each other.
    """
    paths = folder / PREPROCESSOR, folder / POSTPROCESSOR
    if not any(path.is_file() for path in paths):
        return None
    pre, post = _steps(paths[0]), _steps(paths[1])
    _in_order(pre, (RENAME, *_PRE[pi05]), _PRE[pi05], paths[0])
    _in_order(pre, (RELATIVE, NORMALIZER), (), paths[0])
    _in_order(post, (UNNORMALIZER, ABSOLUTE), (UNNORMALIZER,), paths[1])
    other = STATE_TEXT if not pi05 else NEW_LINE
    if other in pre:
        raise InputError(f"{paths[0]}: {other} is no step of a {'pi0.5' if pi05 else 'pi0'}")
    for steps, path in zip((pre, post), paths, strict=True):
        for name in {NORMALIZER, UNNORMALIZER} & steps.keys():
            fail(path, _unlike(steps[name]["config"], name))
    both = {NORMALIZER: pre[NORMALIZER], UNNORMALIZER: post[UNNORMALIZER]}
    return Processors(
        modes={name: _modes(step["config"]) for name, step in both.items()},
        statistics=_statistics(folder, *both.values()),
        state_dim=vector_width(pre[NORMALIZER]["config"]["features"], STATE, "STATE", paths[0]),
        action_dims={
            name: vector_width(both[name]["config"]["features"], ACTION, "ACTION", path)
            for name, path in zip(both, paths, strict=True)
        },
        rename=_settings(pre, RENAME).get("rename_map") or {},
        prompt_length=_prompt_length(pre[TOKENIZER]["config"], paths[0]),
        state_text_width=_settings(pre, STATE_TEXT).get("max_state_dim"),
        relative=_relative(pre, post, folder),
    )


def _settings(steps: Steps, name: str) -> Mapping[str, Any]:
    """Settings of a step; empty if there is no such step."""
    return steps[name]["config"] if name in steps else {}


def _steps(path: Path) -> Steps:
    """Name of a step to the step, in order, with every setting checked."""
    if not path.is_file():
        raise InputError(f"{path}: no such file, though the other processor is there")
    values = read_object(path)
    fail(path, problems(values, _FILE))
    found: Steps = {}
    wrong = []
    for place, step in enumerate(values["steps"]):
        name = step.get("registry_name", step.get("class", f"number {place}"))
        name = _OTHER_NAMES.get(str(name), str(name))
        if name not in _STEPS:
            wrong.append(f"step {name} is unknown")
            continue
        if name in found:
            wrong.append(f"step {name} is there twice")
        known = _STEP_WITH_STATE if name in (NORMALIZER, UNNORMALIZER) else _STEP
        wrong += problems(step, known, f"{name}.")
        settings = step.get("config") or {}
        if isinstance(settings, dict):
            wrong += problems(settings, _STEPS[name], f"{name}.")
        found[name] = step | {"config": settings}
    fail(path, wrong)
    return found


def _in_order(steps: Steps, order: tuple[str, ...], needed: tuple[str, ...], path: Path) -> None:
    missing = [name for name in needed if name not in steps]
    if missing:
        raise InputError(f"{path}: expected the steps {', '.join(needed)}, {missing[0]} is missing")
    there = [name for name in steps if name in order]
    wanted = [name for name in order if name in steps]
    if there != wanted:
        raise InputError(
            f"{path}: expected its steps in the order {', '.join(wanted)}, found {', '.join(there)}"
        )


def _unlike(settings: Mapping[str, Any], name: str) -> list[str]:
    """What a normalising step does that pi0_jax cannot, one text each."""
    found = [
        f"{name}.norm_map has {kind}, which is no kind of feature"
        for kind in settings["norm_map"]
        if kind not in TYPES
    ]
    if not 0 <= (settings.get("eps") or 0.0) <= _LARGEST_EPS:
        found.append(f"{name}.eps is {settings['eps']}, expected at most {_LARGEST_EPS}")
    if _modes(settings)["VISUAL"] != "IDENTITY":
        found.append(f"{name} normalises images, which pi0 does not")
    if name == UNNORMALIZER:
        # Only actions are unnormalised, whatever its features are.
        return found
    # A state that is not listed is left as it is.
    kind = settings["features"].get(STATE, {}).get("type")
    if kind != "STATE":
        found.append(f"{name}.features has {STATE} as {kind}, expected STATE")
    only = settings.get("normalize_observation_keys")
    if only is not None and STATE not in only:
        found.append(f"{name}.normalize_observation_keys leaves out {STATE}")
    return found


def _modes(settings: Mapping[str, Any]) -> dict[str, str]:
    # What has no mode is not normalised.
    return {kind: settings["norm_map"].get(kind, "IDENTITY") for kind in _MODES}


def _prompt_length(settings: Mapping[str, Any], path: Path) -> int:
    name = settings.get("tokenizer_name")
    # All tokenizers of PaliGemma are one; users keep copies of the gated one.
    if "paligemma" not in str(name).lower():
        raise InputError(f"{path}: expected PaliGemma's tokenizer, found {name!r}")
    return settings["max_length"]


def _relative(pre: Steps, post: Steps, folder: Path) -> Relative | None:
    settings, back = _settings(pre, RELATIVE), _settings(post, ABSOLUTE)
    enabled = bool(settings.get("enabled")), bool(back.get("enabled"))  # null is off
    if enabled[0] != enabled[1]:
        raise InputError(
            f"{folder}: {RELATIVE} is {'on' if enabled[0] else 'off'} before the network and "
            f"{ABSOLUTE} {'on' if enabled[1] else 'off'} behind it; expected both on or both off"
        )
    if RELATIVE not in pre:
        return None
    names = settings.get("action_names")
    return Relative(
        enabled=enabled[0],
        exclude=tuple(settings.get("exclude_joints") or ()),
        names=None if names is None else tuple(names),
    )


def _statistics(folder: Path, normalize: Step, undo: Step) -> StoredStats | None:
    """The statistics of both steps, which must be the same."""
    names = normalize.get("state_file"), undo.get("state_file")
    if names == (None, None):
        return None
    where = str(folder / PREPROCESSOR)
    if None in names:
        raise InputError(
            f"{where}: statistics for only one of {NORMALIZER} and {UNNORMALIZER}; give "
            "--norm-stats FILE"
        )
    for name in names:
        if Path(str(name)).name != name:
            raise InputError(
                f"{where}: state_file is {name!r}, expected the name of a file beside it"
            )
    features = normalize["config"]["features"] | undo["config"]["features"]
    cameras = [name for name, each in features.items() if each.get("type") == "VISUAL"]
    inputs, outputs = (read_state_file(folder / str(name), cameras) for name in names)
    # The postprocessor acts; the preprocessor holds the same numbers for training.
    state, action = stats_from(inputs, STATE, where), stats_from(outputs, ACTION, where)
    if state is None or action is None:
        return None
    same_actions(action, stats_from(inputs, ACTION, where), where)
    return StoredStats(where, state, action)
