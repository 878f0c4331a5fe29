"""What a PyTorch checkpoint's config.json declares beside its tensors, for every layout."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pi0_jax.convert.heads import UNKNOWN, DeclaredHeads
from pi0_jax.data.action_space import ActionSpace
from pi0_jax.errors import InputError

_CAMERA = "observation.images."


@dataclass(frozen=True)
class TorchConfig:
    """What a config.json declares; None or empty where it says nothing.

    Attributes:
        heads: numbers of heads.
        depths: axis name ("depth", "vision_depth") to number of layers.
        action_horizon: actions per chunk.
        prompt_length: prompt tokens, padding included.
        execute_steps: actions of a chunk that are executed before the policy is called again.
        cameras: names in order.
        state_dim: width of the raw state.
        action_dim: width of the raw action.
        normalization: lerobot's mode for "STATE" and "ACTION".
        action_space: relative actions and ALOHA's convention; None where no file can say.
        state_in_prompt: whether a pi0.5 reads its state as text in the prompt.
        is_transformers: whether transformers wrote it.
    """

    heads: DeclaredHeads = UNKNOWN
    depths: dict[str, int] = field(default_factory=dict)
    action_horizon: int | None = None
    prompt_length: int | None = None
    execute_steps: int | None = None
    cameras: tuple[str, ...] = ()
    state_dim: int | None = None
    action_dim: int | None = None
    normalization: dict[str, str] = field(default_factory=dict)
    action_space: ActionSpace | None = None
    state_in_prompt: bool | None = None
    is_transformers: bool = False


def read_config(folder: Path) -> TorchConfig:
    """Reads a folder's config.json; without one, nothing is declared.

    Raises:
        InputError: a config.json that cannot be read.
    """
    path = folder / "config.json"
    if not path.is_file():
        return TorchConfig()
    try:
        values = json.loads(path.read_text())
        # transformers and lerobot each write a key that the others lack.
        if "vlm_config" in values:
            return _transformers(values)
        return _lerobot(values) if "input_features" in values else _openpi(values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: cannot read this config: {error!r}") from error


def _transformers(values: dict[str, Any]) -> TorchConfig:
    text, vision = (values["vlm_config"].get(f"{part}_config", {}) for part in ("text", "vision"))
    heads = DeclaredHeads(
        text.get("num_attention_heads"),
        text.get("num_key_value_heads"),
        vision.get("num_attention_heads"),
    )
    # The action expert ("dit_config") has as many layers and heads as the language model.
    layers = {
        "depth": text.get("num_hidden_layers"),
        "vision_depth": vision.get("num_hidden_layers"),
    }
    return TorchConfig(
        heads=heads,
        depths={axis: size for axis, size in layers.items() if size},
        action_horizon=values.get("chunk_size"),
        is_transformers=True,
    )


def _lerobot(values: dict[str, Any]) -> TorchConfig:
    inputs, outputs = values["input_features"], values.get("output_features", {})
    cameras = [name.removeprefix(_CAMERA) for name in inputs if name.startswith(_CAMERA)]
    return TorchConfig(
        action_horizon=values.get("chunk_size"),
        prompt_length=values.get("tokenizer_max_length"),
        execute_steps=values.get("n_action_steps"),
        # lerobot has placeholders for cameras that the robot lacks; here such a camera is absent.
        cameras=tuple(name for name in cameras if not name.startswith("empty_camera")),
        state_dim=_width(inputs.get("observation.state")),
        action_dim=_width(outputs.get("action")),
        normalization=values.get("normalization_mapping", {}),
    )


def _openpi(values: dict[str, Any]) -> TorchConfig:
    return TorchConfig(
        action_horizon=values.get("action_horizon"),
        prompt_length=values.get("max_token_len"),
        # openpi's own name, which our exports write; its train_pytorch.py does not.
        state_in_prompt=values.get("discrete_state_input"),
    )


def _width(feature: dict[str, Any] | None) -> int | None:
    # State and action features are vectors: "shape": [width]
    return feature["shape"][0] if feature else None
