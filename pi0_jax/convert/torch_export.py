"""What PyTorch libraries need beside the weights: config.json and statistics in their format."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pi0_jax.convert.safetensors_file import write_small
from pi0_jax.convert.statistics import (
    NORMALIZER,
    POSTPROCESSOR,
    PREPROCESSOR,
    UNNORMALIZER,
)
from pi0_jax.data.action_space import mask_text
from pi0_jax.data.normalize import NormStats, Stats, save_norm_stats
from pi0_jax.policy.folder import PolicySpec

# openpi and lerobot build networks by these names only; they cannot load other sizes.
_VARIANTS = {"paligemma_variant": "gemma_2b", "action_expert_variant": "gemma_300m"}
# Constants of pi0's flow matching, the same in every checkpoint: number of flow steps, times
# Beta(1.5, 1) · 0.999 + 0.001, and the periods of the time embedding.
_FLOW = {
    "num_inference_steps": 10,
    "time_sampling_beta_alpha": 1.5,
    "time_sampling_beta_beta": 1.0,
    "time_sampling_scale": 0.999,
    "time_sampling_offset": 0.001,
    "min_period": 0.004,
    "max_period": 4.0,
}

Json = dict[str, Any]


def write_openpi(folder: Path, spec: PolicySpec, stats: NormStats, dtype: str) -> None:
    """Writes config.json as openpi's train_pytorch.py, and assets/<asset_id>/norm_stats.json."""
    _write(folder / "config.json", _openpi_config(spec, dtype))
    save_norm_stats(folder / "assets" / spec.asset_id / "norm_stats.json", stats)


def write_rlinf(folder: Path, spec: PolicySpec, stats: NormStats, dtype: str) -> None:
    """As openpi, with the statistics where RLinf looks for them: <asset_id>/norm_stats.json.

    RLinf `rlinf/models/embodiment/openpi/__init__.py`.
    """
    _write(folder / "config.json", _openpi_config(spec, dtype))
    save_norm_stats(folder / spec.asset_id / "norm_stats.json", stats)


def write_transformers(folder: Path, spec: PolicySpec, stats: NormStats, dtype: str) -> None:
    """Writes config.json of PI0ForConditionalGeneration, and statistics as in openpi.

    The library itself has no file for statistics.
    """
    _write(folder / "config.json", _transformers_config(spec, dtype))
    save_norm_stats(folder / "assets" / spec.asset_id / "norm_stats.json", stats)


def write_lerobot(folder: Path, spec: PolicySpec, stats: NormStats, dtype: str) -> None:
    """Writes config.json and the pre- and postprocessor of lerobot 0.4 and later."""
    norm_map = {"VISUAL": "IDENTITY", "STATE": _mode(spec), "ACTION": _mode(spec)}
    inputs, output = _features(spec)
    _write(folder / "config.json", _lerobot_config(spec, inputs, output, norm_map, dtype))
    tensors = _under("observation.state", stats.state) | _under("action", stats.actions)
    # lerobot numbers a file by its step's place in the list of steps below.
    pre, post = (
        f"policy_preprocessor_step_5_{NORMALIZER}.safetensors",
        f"policy_postprocessor_step_0_{UNNORMALIZER}.safetensors",
    )
    write_small(folder / pre, tensors)
    write_small(folder / post, tensors)
    device = _step("device_processor", {"device": "cpu", "float_dtype": None})
    tokenizer = {
        "max_length": spec.model.prompt_length,
        "task_key": "task",
        "padding_side": "right",
        "padding": "max_length",
        "truncation": True,
        "tokenizer_name": "google/paligemma-3b-pt-224",
    }
    normalize = {"eps": 1e-8, "features": inputs | output, "norm_map": norm_map}
    # The steps that lerobot itself writes for pi0, in its order.
    steps = [
        _step("rename_observations_processor", {"rename_map": {}}),
        _step("to_batch_processor", {}),
        _step("pi0_new_line_processor", {}),
        _step("tokenizer_processor", tokenizer),
        device,
        _step(NORMALIZER, normalize, pre),
    ]
    _write(folder / PREPROCESSOR, {"name": "policy_preprocessor", "steps": steps})
    steps = [_step(UNNORMALIZER, normalize | {"features": output}, post), device]
    _write(folder / POSTPROCESSOR, {"name": "policy_postprocessor", "steps": steps})


Writer = Callable[[Path, PolicySpec, NormStats, str], None]
WRITERS: dict[str, Writer] = {
    "openpi": write_openpi,
    "lerobot": write_lerobot,
    "transformers": write_transformers,
    "rlinf": write_rlinf,
}


def notes(family: str, spec: PolicySpec) -> list[str]:
    """What the layout cannot express, as notes for the user.

    Args:
        family: a key of `WRITERS`.
        spec: the policy to export.
    """
    found = []
    if any(spec.action_space.delta_mask):
        mask = mask_text(spec.action_space.delta_mask)
        found.append(
            f"use a config with DeltaActions and AbsoluteActions of the mask {mask} (LIBERO: "
            "extra_delta_transform=True)"
            if family == "openpi"
            else f"actions are relative to the state by the mask {mask}; {family} does not add the "
            "raw state: do so yourself"
        )
    if spec.model.pi05:
        # The horizon and how the state is read stand in openpi's training config, not in files.
        found.append(
            f"use a config with Pi0Config(pi05=True, action_horizon={spec.model.action_horizon}, "
            f"discrete_state_input={spec.state_in_prompt})"
        )
    if spec.quantile and not spec.model.pi05 and family == "openpi":
        found.append("normalised by quantiles: use a config with use_quantile_norm")
    # The width and depth of gemma_2b.
    if family != "transformers" and (spec.model.vlm.width, spec.model.depth) != (2048, 18):
        found.append(f"{family} builds gemma_2b only; it will not load these sizes")
    return found


def _openpi_config(spec: PolicySpec, dtype: str) -> Json:
    model = spec.model
    return {
        "action_dim": model.action_dim,
        "action_horizon": model.action_horizon,
        "max_token_len": model.prompt_length,
        **_VARIANTS,
        "precision": dtype,
        # Names of openpi's `Pi0Config`; what its PyTorch code reads is its own training config.
        **({"pi05": True, "discrete_state_input": spec.state_in_prompt} if model.pi05 else {}),
    }


def _lerobot_config(
    spec: PolicySpec, inputs: Json, output: Json, norm_map: Json, dtype: str
) -> Json:
    model, size = spec.model, spec.model.vision.image_size
    return {
        "type": "pi0",
        "n_obs_steps": 1,
        "input_features": inputs,
        "output_features": output,
        "device": "cpu",
        "use_amp": False,
        **_VARIANTS,
        "dtype": dtype,
        "chunk_size": model.action_horizon,
        "n_action_steps": spec.execute_steps,
        "max_state_dim": model.action_dim,
        "max_action_dim": model.action_dim,
        **_FLOW,
        "image_resolution": [size, size],
        "empty_cameras": 0,
        "normalization_mapping": norm_map,
        "gradient_checkpointing": False,
        "compile_model": False,
        "tokenizer_max_length": model.prompt_length,
    }


def _transformers_config(spec: PolicySpec, dtype: str) -> Json:
    model, vision = spec.model, spec.model.vision
    # What language model and action expert have in common; they differ in their widths.
    decoder = {
        "model_type": "gemma",
        "num_hidden_layers": model.depth,
        "num_attention_heads": model.num_heads,
        "num_key_value_heads": model.num_kv_heads,
        "head_dim": model.head_dim,
        "vocab_size": model.vocab_size,
        "hidden_act": "gelu_pytorch_tanh",
        "rms_norm_eps": 1e-6,
        "use_bidirectional_attention": True,
    }
    vlm = {"hidden_size": model.vlm.width, "intermediate_size": model.vlm.mlp_dim}
    expert = {"hidden_size": model.action.width, "intermediate_size": model.action.mlp_dim}
    tower = {
        "model_type": "siglip_vision_model",
        "hidden_size": vision.width,
        "intermediate_size": vision.mlp_dim,
        "num_hidden_layers": vision.depth,
        "num_attention_heads": vision.num_heads,
        "patch_size": vision.patch_size,
        "image_size": vision.image_size,
        "projection_dim": model.vlm.width,
        "layer_norm_eps": 1e-6,
        "hidden_act": "gelu_pytorch_tanh",
        "vision_use_head": False,
    }
    return {
        "architectures": ["PI0ForConditionalGeneration"],
        "model_type": "pi0",
        "dtype": dtype,
        "chunk_size": model.action_horizon,
        "max_state_dim": model.action_dim,
        "max_action_dim": model.action_dim,
        **_FLOW,
        "loss_reduction": "mean",
        "dit_config": decoder | expert,
        "vlm_config": {
            "model_type": "paligemma",
            "projection_dim": model.vlm.width,
            # The first id after the vocabulary marks an image token.
            "image_token_index": model.vocab_size,
            "text_config": decoder | vlm | {"num_image_tokens": vision.num_tokens},
            "vision_config": tower,
        },
    }


def _features(spec: PolicySpec) -> tuple[Json, Json]:
    """The input_features and output_features of lerobot: name to type and shape."""
    size = spec.model.vision.image_size
    images = {
        # Channels first, as PyTorch has them.
        f"observation.images.{name}": {"type": "VISUAL", "shape": [3, size, size]}
        for name in (*spec.robot.cameras, *spec.robot.masked_cameras)
    }
    state = {"type": "STATE", "shape": [len(spec.robot.state)]}
    action = {"type": "ACTION", "shape": [len(spec.robot.actions)]}
    return {**images, "observation.state": state}, {"action": action}


def _under(name: str, stats: Stats) -> dict[str, np.ndarray]:
    # lerobot's files hold float32: the one place where an export is not exact.
    values = {"mean": stats.mean, "std": stats.std, "q01": stats.q01, "q99": stats.q99}
    return {f"{name}.{k}": v.astype(np.float32) for k, v in values.items() if v is not None}


def _mode(spec: PolicySpec) -> str:
    return "QUANTILES" if spec.quantile else "MEAN_STD"


def _step(name: str, config: Json, state_file: str | None = None) -> Json:
    step: Json = {"registry_name": name, "config": config}
    return step | {"state_file": state_file} if state_file else step


def _write(path: Path, values: Json) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n")
