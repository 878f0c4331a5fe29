"""config.json of lerobot 0.1 to 0.6, and its agreement with the processors beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pi0_jax.convert.settings import lerobot_processors
from pi0_jax.convert.settings.declared import TorchConfig
from pi0_jax.convert.settings.flow_constants import NETWORK, steps_note
from pi0_jax.convert.settings.kinds import (
    BOOL,
    COUNT,
    OBJECT,
    OF_OBJECTS,
    OF_TEXTS,
    SIDES,
    TEXT,
    TEXTS,
    WHOLE,
)
from pi0_jax.convert.settings.known_settings import Known, fail, problems
from pi0_jax.convert.settings.lerobot_features import ACTION, STATE, Features, read_features
from pi0_jax.convert.settings.lerobot_processors import NORMALIZER, STATE_TEXT, Processors
from pi0_jax.convert.settings.lerobot_relative import Relative, mask_of
from pi0_jax.data.action_space import AS_THE_ROBOT, NONE, ActionSpace
from pi0_jax.errors import InputError
from pi0_jax.types import FLOW_STEPS

_TRAINING = "only training reads it"
_HUB = "only the hub reads it"
_SPEED = "how fast or where it is computed, not what"
_SIZES = "the tensors have the sizes"
CONFIG = Known(
    read={
        "type": TEXT,
        "input_features": OF_OBJECTS,
        "output_features": OF_OBJECTS,
        "normalization_mapping": OF_TEXTS,
        "chunk_size": WHOLE,
        "n_action_steps": WHOLE,
        "max_state_dim": WHOLE,
        "max_action_dim": WHOLE,
        "empty_cameras": COUNT,
        "image_resolution": SIDES,
        "resize_imgs_with_padding": SIDES,
        "tokenizer_max_length": WHOLE,
        "proj_width": WHOLE,
        "num_inference_steps": WHOLE,
        "num_steps": WHOLE,
        "use_relative_actions": BOOL,
        "relative_exclude_joints": TEXTS,
        "action_feature_names": TEXTS,
        "adapt_to_pi_aloha": BOOL,
        "use_delta_joint_actions_aloha": BOOL,
        "rtc_config": OBJECT,
    },
    # Frames per observation, and what every pi0 computes.
    fixed={"n_obs_steps": (1,)} | {key: (value,) for key, value in NETWORK.items()},
    harmless={
        "paligemma_variant": _SIZES,
        "action_expert_variant": _SIZES,
        "dtype": "the tensors have a dtype",
        "device": _SPEED,
        "use_amp": _SPEED,
        "use_cache": _SPEED,
        "attention_implementation": _SPEED,
        "gradient_checkpointing": _SPEED,
        "compile_model": _SPEED,
        "compile_mode": _SPEED,
        "use_peft": "an adapter is recognised by its own files",
        "push_to_hub": _HUB,
        "repo_id": _HUB,
        "private": _HUB,
        "tags": _HUB,
        "license": _HUB,
        "pretrained_path": "where training started from",
        "pretrained_revision": "where training started from",
        "freeze_vision_encoder": _TRAINING,
        "train_expert_only": _TRAINING,
        "train_state_proj": _TRAINING,
        "optimizer_lr": _TRAINING,
        "optimizer_betas": _TRAINING,
        "optimizer_eps": _TRAINING,
        "optimizer_weight_decay": _TRAINING,
        "optimizer_grad_clip_norm": _TRAINING,
        "scheduler_warmup_steps": _TRAINING,
        "scheduler_decay_steps": _TRAINING,
        "scheduler_decay_lr": _TRAINING,
    },
)
# pi0 by z-scores, pi0.5 by quantiles, where a config.json does not say.
_DEFAULT_MODE = {False: "MEAN_STD", True: "QUANTILES"}
_STATE_DIM = 32  # lerobot's max_state_dim where a config.json does not say
_TWO_ARMS = (*[True] * 6, False) * 2  # ALOHA: the six joints of each arm, not its gripper


def read(values: dict[str, Any], path: Path) -> TorchConfig:
    """What a config.json of lerobot declares, with the processors of its folder.

    Args:
        values: its content.
        path: the file; processors are looked for beside it.

    Raises:
        InputError: a policy of another type, a setting that is unknown or that pi0_jax does not
            implement, or processors that contradict it.
    """
    pi05 = _is_pi05(values, path)
    fail(path, problems(values, CONFIG) or _not_carried(values))
    processors = lerobot_processors.read(path.parent, pi05=pi05)
    rename = processors.rename if processors else {}
    features = read_features(values, rename, path)
    config = _mapping(values, pi05)
    if processors:
        _check_agree(values, config, processors, features, path)
    resolution = values.get("image_resolution") or values.get("resize_imgs_with_padding")
    sizes = {
        "image_resolution": ("image_size", resolution[0] if resolution else None),
        "max_action_dim": ("action_dim", values.get("max_action_dim")),
        "max_state_dim": ("action_dim", values.get("max_state_dim")),
        "proj_width": ("action_width", values.get("proj_width")),
    }
    return TorchConfig(
        sizes={key: (name, size) for key, (name, size) in sizes.items() if size is not None},
        pi05=pi05,
        action_horizon=values.get("chunk_size"),
        prompt_length=_prompt_length(values, processors),
        execute_steps=values.get("n_action_steps"),
        cameras=features.cameras,
        state_dim=_own(features.state, values.get("max_state_dim")),
        action_dim=_own(features.action, values.get("max_action_dim")),
        normalization=config,
        statistics=processors.statistics if processors else None,
        # lerobot has no pi0.5 without it.
        state_in_prompt=True if pi05 else None,
        padded_state_text=_padded_state_text(values, processors) if pi05 else None,
        action_space=_action_space(values, processors, features, path),
        notes=_notes(values, processors) + features.notes,
    )


def _is_pi05(values: Mapping[str, Any], path: Path) -> bool:
    kind = values.get("type", "pi0")
    if kind in ("pi0_fast", "pi0fast"):
        raise InputError(
            f"{path}: a {kind} policy; pi0-FAST writes its actions as words and is not supported, "
            "only pi0 and pi0.5 are"
        )
    if kind not in ("pi0", "pi05"):
        raise InputError(f"{path}: a policy of type {kind!r}; expected pi0 or pi05")
    return kind == "pi05"


def _not_carried(values: Mapping[str, Any]) -> list[str]:
    """Problems of settings that are read, and that a policy folder has no place for."""
    found = []
    rtc = values.get("rtc_config")
    if rtc and rtc.get("enabled", True) is not False:
        found.append("rtc_config is enabled, pi0_jax executes chunks without real-time chunking")
    steps, horizon = values.get("n_action_steps"), values.get("chunk_size")
    if steps and horizon and steps > horizon:
        found.append(f"n_action_steps is {steps}, a chunk has {horizon} actions (chunk_size)")
    for name in ("image_resolution", "resize_imgs_with_padding"):
        sides = values.get(name)
        if sides and sides[0] != sides[1]:
            found.append(f"{name} is {sides}, images of pi0 are square")
    visual = (values.get("normalization_mapping") or {}).get("VISUAL", "IDENTITY")
    if visual != "IDENTITY":
        found.append(f"normalization_mapping.VISUAL is {visual}, pi0 does not normalise images")
    return found


def _mapping(values: Mapping[str, Any], pi05: bool) -> dict[str, str]:
    """Mode of every kind of feature."""
    default = _DEFAULT_MODE[pi05]
    stated = values.get("normalization_mapping")
    if stated is None:
        return {"VISUAL": "IDENTITY", "STATE": default, "ACTION": default}
    # What has no mode is not normalised.
    return {"STATE": "IDENTITY", "ACTION": "IDENTITY"} | dict(stated)


def _check_agree(
    values: Mapping[str, Any],
    mapping: Mapping[str, str],
    processors: Processors,
    features: Features,
    path: Path,
) -> None:
    """Raises where the processors, which act, do otherwise than config.json says."""
    found = [
        f"{name} normalises {kind} by {mode}, config.json says {mapping.get(kind, 'IDENTITY')}"
        for name, modes in processors.modes.items()
        for kind, mode in modes.items()
        if mode != mapping.get(kind, "IDENTITY")
    ]
    found += _other_widths(values, processors, features)
    length = values.get("tokenizer_max_length")
    if length is not None and length != processors.prompt_length:
        found.append(
            f"the tokenizer pads to {processors.prompt_length}, tokenizer_max_length is {length}"
        )
    width, text_width = values.get("max_state_dim", _STATE_DIM), processors.state_text_width
    if text_width is not None and text_width != width:
        found.append(f"{STATE_TEXT}.max_state_dim is {text_width}, max_state_dim is {width}")
    stated = _stated_relative(values)
    acting = processors.relative or Relative()
    if stated is not None and (stated.enabled or acting.enabled) and stated != acting:
        found.append(f"relative actions: the processors have {acting}, config.json {stated}")
    if found:
        raise InputError(
            f"{path.parent}: processors and config.json disagree: {'; '.join(found)}; make them "
            "agree, in a copy"
        )


def _other_widths(
    values: Mapping[str, Any], processors: Processors, features: Features
) -> list[str]:
    """Widths that the processors have and config.json has otherwise, one text each."""
    state_padded, action_padded = values.get("max_state_dim"), values.get("max_action_dim")
    pairs = [(f"{NORMALIZER} {STATE}", processors.state_dim, features.state, state_padded)]
    pairs += [
        (f"{step} {ACTION}", width, features.action, action_padded)
        for step, width in processors.action_dims.items()
    ]
    # Either side may say nothing, or have been filled in.
    own = [(name, _own(x, padded), _own(y, padded)) for name, x, y, padded in pairs]
    return [
        f"{name} has {width} values, config.json says {declared}"
        for name, width, declared in own
        if width and declared and width != declared
    ]


def _stated_relative(values: Mapping[str, Any]) -> Relative | None:
    """Relative actions as config.json states them; None before lerobot 0.5.1."""
    if "use_relative_actions" not in values:
        return None
    names = values.get("action_feature_names")
    return Relative(
        enabled=bool(values["use_relative_actions"]),  # null is off
        exclude=tuple(values.get("relative_exclude_joints", ("gripper",)) or ()),
        names=None if names is None else tuple(names),
    )


def _action_space(
    values: Mapping[str, Any], processors: Processors | None, features: Features, path: Path
) -> ActionSpace | None:
    """What lerobot does to states and actions; None for a base that it did not train."""
    adapt = "lerobot" if values.get("adapt_to_pi_aloha") else NONE
    space = ActionSpace(_delta_mask(values, processors, features, path), adapt)
    # A policy without statistics was converted from openpi, whose files do not say it either.
    is_base = processors is not None and processors.statistics is None
    return None if is_base and space == AS_THE_ROBOT else space


def _delta_mask(
    values: Mapping[str, Any], processors: Processors | None, features: Features, path: Path
) -> tuple[bool, ...]:
    if values.get("use_delta_joint_actions_aloha"):
        # openpi's `use_delta_joint_actions`; lerobot has the name, and refuses to train with it.
        if features.action != len(_TWO_ARMS):
            raise InputError(
                f"{path}: use_delta_joint_actions_aloha is for {len(_TWO_ARMS)} actions, this "
                f"policy has {features.action}"
            )
        return _TWO_ARMS
    # Without processors nothing makes actions absolute again; then config.json is all there is.
    acting = processors.relative if processors else _stated_relative(values)
    if acting is None or not acting.enabled:
        return ()
    if features.action is None:
        raise InputError(f"{path}: relative actions need output_features with the action's shape")
    return mask_of(acting, features.action)


def _prompt_length(values: Mapping[str, Any], processors: Processors | None) -> int | None:
    return processors.prompt_length if processors else values.get("tokenizer_max_length")


def _padded_state_text(values: Mapping[str, Any], processors: Processors | None) -> bool:
    """Whether the prompt of a pi0.5 has the state padded to max_state_dim.

    lerobot 0.4 pads it, openpi and lerobot from 0.5 on do not. Nothing in a file says the version,
    but only 0.5.1 and later write `use_relative_actions` and the step for it, and a policy without
    statistics was converted from openpi and not trained by lerobot.
    """
    if processors is None or processors.statistics is None:
        return False
    return "use_relative_actions" not in values and processors.relative is None


def _own(declared: int | None, padded: int | None) -> int | None:
    # lerobot fills in the model's width where a base policy knows no robot: that is no evidence.
    return None if declared is None or declared == padded else declared


def _notes(values: Mapping[str, Any], processors: Processors | None) -> tuple[str, ...]:
    steps = values.get("num_inference_steps") or values.get("num_steps") or FLOW_STEPS
    found = list(steps_note("lerobot", steps))
    acting = processors.relative if processors else None
    if acting and acting.enabled and acting.exclude and acting.names is None:
        found.append(
            f"relative actions: {', '.join(acting.exclude)} are to stay absolute, but the actions "
            "have no names, so lerobot makes all relative; --delta-mask decides otherwise"
        )
    return tuple(found)
