"""config.json of transformers' PI0ForConditionalGeneration."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pi0_jax.convert.keys.heads import DeclaredHeads
from pi0_jax.convert.settings.declared import TorchConfig
from pi0_jax.convert.settings.flow_constants import NETWORK, steps_note
from pi0_jax.convert.settings.kinds import OBJECT, WHOLE
from pi0_jax.convert.settings.known_settings import Known, fail, problems
from pi0_jax.errors import InputError
from pi0_jax.types import FLOW_STEPS

_TRAINING = "only training reads it"
_GENERIC = "transformers gives it to every model; this one does not read it"
# What every configuration of the library may have.
_EVERYWHERE = dict.fromkeys(
    (
        "_name_or_path",
        "architectures",
        "auto_map",
        "bos_token_id",
        "chunk_size_feed_forward",
        "eos_token_id",
        "id2label",
        "image_token_index",
        "image_token_id",
        "initializer_factor",
        "initializer_range",
        "is_encoder_decoder",
        "label2id",
        "max_position_embeddings",
        "model_type",
        "output_attentions",
        "output_hidden_states",
        "pad_token_id",
        "problem_type",
        "return_dict",
        "tie_word_embeddings",
        "transformers_version",
        "use_cache",
    ),
    _GENERIC,
) | {
    "dtype": "the tensors have a dtype",
    "torch_dtype": "the tensors have a dtype",
    "attention_dropout": _TRAINING,
    "attn_implementation": "how fast, not what",
}
_TOP = Known(
    read={
        "vlm_config": OBJECT,
        "dit_config": OBJECT,
        "chunk_size": WHOLE,
        "max_state_dim": WHOLE,
        "max_action_dim": WHOLE,
        "num_inference_steps": WHOLE,
    },
    fixed={key: (value,) for key, value in NETWORK.items()},
    harmless=_EVERYWHERE | {"loss_reduction": _TRAINING},
)
_PALIGEMMA = Known(
    read={"text_config": OBJECT, "vision_config": OBJECT},
    harmless=_EVERYWHERE
    | {
        # Written beside those of the parts, and not always after the sizes.
        "hidden_size": "the parts have their own",
        "vocab_size": "the parts have their own",
        "projection_dim": "the tensors have the sizes",
    },
)
_DECODER = Known(
    read={
        "head_dim": WHOLE,
        "hidden_size": WHOLE,
        "intermediate_size": WHOLE,
        "num_attention_heads": WHOLE,
        "num_hidden_layers": WHOLE,
        "num_key_value_heads": WHOLE,
        "rope_parameters": OBJECT,
        "vocab_size": WHOLE,
    },
    fixed={
        "hidden_act": ("gelu_pytorch_tanh",),
        "hidden_activation": ("gelu_pytorch_tanh", None),
        "rms_norm_eps": (1e-6,),
        "attention_bias": (False,),
        "rope_theta": (10000.0,),
        "rope_scaling": (None,),
    },
    harmless=_EVERYWHERE
    | {
        "num_image_tokens": "the image tower has the size",
        # The model sets these two itself, whatever the file says.
        "use_bidirectional_attention": "PI0 turns it on",
        "is_causal": "PI0 makes its own mask",
    },
)
_TOWER = Known(
    read={
        "hidden_size": WHOLE,
        "image_size": WHOLE,
        "intermediate_size": WHOLE,
        "num_attention_heads": WHOLE,
        "num_hidden_layers": WHOLE,
        "patch_size": WHOLE,
    },
    fixed={
        "hidden_act": ("gelu_pytorch_tanh",),
        "layer_norm_eps": (1e-6,),
        "num_channels": (3,),
    },
    harmless=_EVERYWHERE
    | {
        "vocab_size": "a tower for images has no words",
        "projection_dim": "the tensors have the sizes",
        "projector_hidden_act": "not read: the projector is linear",
        "num_image_tokens": "image and patch size have it",
        "vision_use_head": "the model has no head; a tensor of one would be unexpected",
    },
)
_ROPE = Known(
    fixed={"rope_theta": (10000.0,), "rope_type": ("default",)},
    harmless={"partial_rotary_factor": "read by other models only"},
)


def read(values: dict[str, Any], path: Path) -> TorchConfig:
    """What such a config.json declares.

    Args:
        values: its content.
        path: the file, for messages.

    Raises:
        InputError: another model, or a setting that is unknown or that pi0_jax does not implement.
    """
    kind = values.get("model_type", "pi0")
    if kind != "pi0":
        raise InputError(
            f"{path}: a model of type {kind!r}; of transformers' models only pi0 is known here "
            "(the library has no pi0.5)"
        )
    # A part is looked into once it is known to be an object.
    fail(path, problems(values, _TOP))
    vlm, expert = values.get("vlm_config") or {}, values.get("dit_config") or {}
    fail(path, problems(vlm, _PALIGEMMA, "vlm_config."))
    text, tower = vlm.get("text_config") or {}, vlm.get("vision_config") or {}
    fail(
        path,
        [
            *_decoder_problems(text, "vlm_config.text_config."),
            *_decoder_problems(expert, "dit_config."),
            *problems(tower, _TOWER, "vlm_config.vision_config."),
            *_unlike(text, expert),
        ],
    )
    heads = DeclaredHeads(
        text.get("num_attention_heads"),
        text.get("num_key_value_heads"),
        tower.get("num_attention_heads"),
    )
    # The action expert has as many layers and heads as the language model.
    layers = {
        "depth": text.get("num_hidden_layers"),
        "vision_depth": tower.get("num_hidden_layers"),
    }
    return TorchConfig(
        heads=heads,
        depths={axis: size for axis, size in layers.items() if size is not None},
        sizes=_sizes(values, text, expert, tower),
        pi05=False,
        action_horizon=values.get("chunk_size"),
        is_transformers=True,
        notes=steps_note("transformers", values.get("num_inference_steps", FLOW_STEPS)),
    )


def _decoder_problems(values: Mapping[str, Any], part: str) -> list[str]:
    found, rope = problems(values, _DECODER, part), values.get("rope_parameters")
    if isinstance(rope, dict):
        found += problems(rope, _ROPE, f"{part}rope_parameters.")
    return found


def _unlike(text: Mapping[str, Any], expert: Mapping[str, Any]) -> list[str]:
    """Sizes that both experts share; they attend together."""
    shared = ("num_attention_heads", "num_hidden_layers", "num_key_value_heads", "head_dim")
    return [
        f"{key} is {text[key]} in text_config and {expert[key]} in dit_config"
        for key in shared
        if key in text and key in expert and text[key] != expert[key]
    ]


def _sizes(
    values: Mapping[str, Any],
    text: Mapping[str, Any],
    expert: Mapping[str, Any],
    tower: Mapping[str, Any],
) -> dict[str, tuple[str, int]]:
    """Declared sizes that the tensors have too."""
    parts = {"": values, "text_config.": text, "dit_config.": expert, "vision_config.": tower}
    names = {
        ("", "max_state_dim"): "action_dim",
        ("", "max_action_dim"): "action_dim",
        ("text_config.", "hidden_size"): "vlm_width",
        ("text_config.", "intermediate_size"): "vlm_mlp",
        ("text_config.", "head_dim"): "head_dim",
        ("text_config.", "vocab_size"): "vocab_size",
        ("dit_config.", "hidden_size"): "action_width",
        ("dit_config.", "intermediate_size"): "action_mlp",
        ("vision_config.", "hidden_size"): "vision_width",
        ("vision_config.", "intermediate_size"): "vision_mlp",
        ("vision_config.", "image_size"): "image_size",
        ("vision_config.", "patch_size"): "patch_size",
    }
    return {
        f"{part}{key}": (name, parts[part][key])
        for (part, key), name in names.items()
        if parts[part].get(key) is not None
    }
