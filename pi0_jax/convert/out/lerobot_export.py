"""config.json and the two processors of lerobot 0.4 and later, for a pi0 or a pi0.5."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from pi0_jax.convert.files.safetensors_file import write_small
from pi0_jax.convert.settings import lerobot_processors as names
from pi0_jax.convert.settings.flow_constants import NETWORK, VARIANTS
from pi0_jax.convert.settings.lerobot_features import ACTION, STATE, is_placeholder
from pi0_jax.convert.settings.lerobot_relative import Relative, settings_for
from pi0_jax.data.normalize import NormStats, Stats
from pi0_jax.errors import InputError
from pi0_jax.policy.spec import PolicySpec
from pi0_jax.types import FLOW_STEPS

Json = dict[str, Any]


def check(spec: PolicySpec) -> None:
    """Checks that lerobot has such a policy.

    Raises:
        InputError: a pi0.5 without its state in the prompt, or a camera with the name of one that
            is not there.
    """
    if spec.model.pi05 and not spec.state_in_prompt:
        raise InputError(
            "--layout lerobot: this pi0.5 reads no state, and every pi0.5 of lerobot reads it as "
            "text; use --layout openpi"
        )
    if empty := [name for name in spec.robot.cameras if is_placeholder(name)]:
        raise InputError(
            f"--layout lerobot: the robot has a camera {empty[0]!r}, as lerobot calls one that is "
            "not there; give it another name in config.json of a copy"
        )


def write(folder: Path, spec: PolicySpec, stats: NormStats, dtype: str) -> None:
    """Writes config.json, both processors and their statistics.

    Args:
        folder: where to.
        spec: the policy.
        stats: of the raw state and of the actions.
        dtype: name of the weights' dtype.
    """
    inputs, output = _features(spec)
    mode = "QUANTILES" if spec.quantile else "MEAN_STD"
    norm_map = {"VISUAL": "IDENTITY", "STATE": mode, "ACTION": mode}
    relative = _relative(spec)
    write_json(folder / "config.json", _config(spec, inputs, output, norm_map, relative, dtype))
    normalize = {"eps": 1e-8, "features": inputs | output, "norm_map": norm_map}
    before = _before(spec, normalize, relative)
    behind = [(names.UNNORMALIZER, normalize | {"features": output})]
    if relative:
        behind.append((names.ABSOLUTE, {"enabled": relative.enabled}))
    behind.append((names.DEVICE, _DEVICE))
    tensors = _tensors(STATE, stats.state, len(spec.robot.state))
    tensors |= _tensors(ACTION, stats.actions, len(spec.robot.actions))
    for file, steps in ((names.PREPROCESSOR, before), (names.POSTPROCESSOR, behind)):
        _write_processor(folder / file, steps, tensors)


_DEVICE: Json = {"device": "cpu", "float_dtype": None}


def _before(spec: PolicySpec, normalize: Json, relative: Relative | None) -> list[tuple[str, Json]]:
    """Steps of the preprocessor, in lerobot's order."""
    tokenizer = {
        "max_length": spec.model.prompt_length,
        "task_key": "task",
        "padding_side": "right",
        "padding": "max_length",
        "truncation": True,
        "tokenizer_name": "google/paligemma-3b-pt-224",
    }
    shift = []
    if relative:
        own = None if relative.names is None else list(relative.names)
        settings = {
            "enabled": relative.enabled,
            "exclude_joints": list(relative.exclude),
            "action_names": own,
        }
        shift = [(names.RELATIVE, settings)]
    first = [(names.RENAME, {"rename_map": {}}), (names.BATCH, {})]
    read = (names.TOKENIZER, tokenizer)
    if spec.model.pi05:
        # The state is normalised before it becomes text.
        written = [(names.STATE_TEXT, {}), read, (names.DEVICE, _DEVICE)]
        return [*first, *shift, (names.NORMALIZER, normalize), *written]
    written = [(names.NEW_LINE, {}), read, (names.DEVICE, _DEVICE)]
    return [*first, *written, *shift, (names.NORMALIZER, normalize)]


def _relative(spec: PolicySpec) -> Relative | None:
    """Settings of relative actions; None to write the files of a lerobot that had none.

    A pi0 without them is then read by every lerobot from 0.4 on. A pi0.5 has them where its state's
    text is not padded, as in lerobot from 0.5 on.
    """
    actions = [dimension.name for dimension in spec.robot.actions]
    mask = spec.action_space.delta_mask
    if any(mask):
        # A shorter mask leaves the rest absolute.
        return settings_for((*mask, *[False] * (len(actions) - len(mask))), tuple(actions))
    return (
        Relative(exclude=("gripper",)) if spec.model.pi05 and not spec.padded_state_text else None
    )


def _config(
    spec: PolicySpec,
    inputs: Json,
    output: Json,
    norm_map: Json,
    relative: Relative | None,
    dtype: str,
) -> Json:
    model, size = spec.model, spec.model.vision.image_size
    shifted: Json = {}
    if relative:
        shifted = {
            "use_relative_actions": relative.enabled,
            "relative_exclude_joints": list(relative.exclude),
            "action_feature_names": None if relative.names is None else list(relative.names),
        }
    return {
        "type": "pi05" if model.pi05 else "pi0",
        "n_obs_steps": 1,
        "input_features": inputs,
        "output_features": output,
        "device": "cpu",
        "use_amp": False,
        **VARIANTS,
        "dtype": dtype,
        "chunk_size": model.action_horizon,
        "n_action_steps": spec.execute_steps,
        "max_state_dim": model.action_dim,
        "max_action_dim": model.action_dim,
        "num_inference_steps": FLOW_STEPS,
        **NETWORK,
        **shifted,
        "image_resolution": [size, size],
        "empty_cameras": 0,
        "normalization_mapping": norm_map,
        "gradient_checkpointing": False,
        "compile_model": False,
        "tokenizer_max_length": model.prompt_length,
    }


def _features(spec: PolicySpec) -> tuple[Json, Json]:
    """The input_features and output_features: name to type and shape."""
    size = spec.model.vision.image_size
    images = {
        # Channels first, as PyTorch has them. A camera that is always masked changes nothing.
        f"observation.images.{name}": {"type": "VISUAL", "shape": [3, size, size]}
        for name in spec.robot.cameras
    }
    state = {"type": "STATE", "shape": [len(spec.robot.state)]}
    action = {"type": "ACTION", "shape": [len(spec.robot.actions)]}
    return {**images, STATE: state}, {ACTION: action}


def _tensors(name: str, stats: Stats, width: int) -> dict[str, np.ndarray]:
    # Policy folders of pi0_jax 0.1 may have statistics padded to the network's width.
    # lerobot's files hold float32: the one place where an export is not exact.
    values = {"mean": stats.mean, "std": stats.std, "q01": stats.q01, "q99": stats.q99}
    return {f"{name}.{k}": v[:width].astype(np.float32) for k, v in values.items() if v is not None}


def _write_processor(
    path: Path, steps: list[tuple[str, Json]], tensors: dict[str, np.ndarray]
) -> None:
    """Writes a processor; the step that normalises gets a file with the statistics."""
    listed: list[Json] = []
    for i, (name, settings) in enumerate(steps):
        step: Json = {"registry_name": name, "config": settings}
        if name in (names.NORMALIZER, names.UNNORMALIZER):
            # lerobot numbers a file by its step's place.
            step["state_file"] = f"{path.stem}_step_{i}_{name}.safetensors"
            write_small(path.parent / step["state_file"], tensors)
        listed.append(step)
    write_json(path, {"name": path.stem, "steps": listed})


def write_json(path: Path, values: Json) -> None:
    """Writes a file of settings as the libraries do, indented."""
    path.write_text(json.dumps(values, indent=2) + "\n")
