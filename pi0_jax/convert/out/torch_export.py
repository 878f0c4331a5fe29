"""What PyTorch libraries need beside the weights: config.json and statistics in their format."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pi0_jax.convert.out import lerobot_export
from pi0_jax.convert.settings.flow_constants import NETWORK, VARIANTS
from pi0_jax.data.normalize import NormStats, save_norm_stats
from pi0_jax.errors import InputError
from pi0_jax.policy.spec import PolicySpec
from pi0_jax.types import FLOW_STEPS

Json = dict[str, Any]


def write_openpi(folder: Path, spec: PolicySpec, stats: NormStats, dtype: str) -> None:
    """Writes config.json as openpi's train_pytorch.py, and assets/<asset_id>/norm_stats.json."""
    lerobot_export.write_json(folder / "config.json", _openpi_config(spec, dtype))
    save_norm_stats(folder / "assets" / spec.asset_id / "norm_stats.json", stats)


def write_rlinf(folder: Path, spec: PolicySpec, stats: NormStats, dtype: str) -> None:
    """As openpi, with the statistics where RLinf looks for them: <asset_id>/norm_stats.json.

    RLinf `rlinf/models/embodiment/openpi/__init__.py`.
    """
    lerobot_export.write_json(folder / "config.json", _openpi_config(spec, dtype))
    save_norm_stats(folder / spec.asset_id / "norm_stats.json", stats)


def write_transformers(folder: Path, spec: PolicySpec, stats: NormStats, dtype: str) -> None:
    """Writes config.json of PI0ForConditionalGeneration, and statistics as in openpi.

    The library's processor takes them as arguments (`state_mean` and so on) and needs a tokenizer
    of its own beside them, which is not ours to write.
    """
    lerobot_export.write_json(folder / "config.json", _transformers_config(spec, dtype))
    save_norm_stats(folder / "assets" / spec.asset_id / "norm_stats.json", stats)


Writer = Callable[[Path, PolicySpec, NormStats, str], None]
WRITERS: dict[str, Writer] = {
    "openpi": write_openpi,
    "lerobot": lerobot_export.write,
    "transformers": write_transformers,
    "rlinf": write_rlinf,
}


def check(family: str, spec: PolicySpec) -> None:
    """Checks that a library has such a policy.

    Args:
        family: a key of `WRITERS`.
        spec: the policy to export.

    Raises:
        InputError: it has none.
    """
    if family == "lerobot":
        lerobot_export.check(spec)
    if family == "transformers" and spec.model.pi05:
        raise InputError(
            "--layout transformers: the library has no pi0.5 (as of 5.24); use --layout openpi, or "
            "lerobot where the state is in the prompt"
        )


def _openpi_config(spec: PolicySpec, dtype: str) -> Json:
    model = spec.model
    return {
        "action_dim": model.action_dim,
        "action_horizon": model.action_horizon,
        "max_token_len": model.prompt_length,
        **VARIANTS,
        "precision": dtype,
        # Names of openpi's `Pi0Config`; what its PyTorch code reads is its own training config.
        **({"pi05": True, "discrete_state_input": spec.state_in_prompt} if model.pi05 else {}),
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
        "num_inference_steps": FLOW_STEPS,
        **NETWORK,
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
