"""What a PyTorch checkpoint's config.json declares beside its tensors, for every layout.

Every key is read, has a known value, is known to be harmless, or is an error.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from pi0_jax.convert.settings import lerobot_config, transformers_config
from pi0_jax.convert.settings.declared import TorchConfig
from pi0_jax.convert.settings.kinds import BOOL, WHOLE
from pi0_jax.convert.settings.known_settings import Known, fail, problems
from pi0_jax.convert.settings.transformers_processor import (
    PROCESSOR,
    check_pictures,
    read_processor,
    refuse_statistics,
)
from pi0_jax.errors import InputError
from pi0_jax.json_file import read_object
from pi0_jax.model.config import Pi0Config

_BY_TENSORS = "the tensors have the sizes"
_OPENPI = Known(
    read={
        "action_dim": WHOLE,
        "action_horizon": WHOLE,
        "max_token_len": WHOLE,
        "pi05": BOOL,
        "discrete_state_input": BOOL,
    },
    # Of RLinf's bare layout: an input of point clouds.
    fixed={"pcd": (False,)},
    harmless={
        "paligemma_variant": _BY_TENSORS,
        "action_expert_variant": _BY_TENSORS,
        "precision": "the tensors have a dtype",
        "dtype": "the tensors have a dtype",
        "pytorch_compile_mode": "how fast, not what",
    },
)


def read_config(folder: Path) -> TorchConfig:
    """Reads a folder's config.json, and the processors beside it; without one, nothing is declared.

    Raises:
        InputError: a file that cannot be read, a setting that is unknown or that pi0_jax does not
            implement, or files that contradict each other.
    """
    path = folder / "config.json"
    values = read_object(path) if path.is_file() else {}
    # Whoever wrote the other files: these settings are of this network's pictures.
    check_pictures(folder)
    if not values or _is_transformers(values):
        found = transformers_config.read(values, path) if values else TorchConfig()
        return _with_processor(found, folder)
    refuse_statistics(folder)
    read = lerobot_config.read if _is_lerobot(values) else _openpi
    return read(values, path)


def _with_processor(config: TorchConfig, folder: Path) -> TorchConfig:
    """Adds what transformers' processor declares; it is read beside its config.json, or alone."""
    processor = read_processor(folder)
    width = processor.padded_dim
    sizes = {} if width is None else {f"{PROCESSOR} max_state_dim": ("action_dim", width)}
    return replace(config, statistics=processor.statistics, sizes={**config.sizes, **sizes})


def is_lerobot(folder: Path) -> bool:
    """Whether a folder has a config.json of lerobot; then the processors beside it are read.

    Raises:
        InputError: the file cannot be read.
    """
    path = folder / "config.json"
    return path.is_file() and _is_lerobot(read_object(path))


# transformers and lerobot each write a key that the others lack.
def _is_transformers(values: dict[str, Any]) -> bool:
    return "vlm_config" in values or "dit_config" in values


def _is_lerobot(values: dict[str, Any]) -> bool:
    return not _is_transformers(values) and ("input_features" in values or "type" in values)


def check_model(config: TorchConfig, model: Pi0Config, path: Path) -> None:
    """Checks what config.json declares against the architecture that the tensors have.

    Args:
        config: what is declared.
        model: the architecture.
        path: where the checkpoint lies, for messages.

    Raises:
        InputError: they contradict each other.
    """
    has = "pi0.5" if model.pi05 else "pi0"
    if config.pi05 is not None and config.pi05 != model.pi05:
        says = "pi0.5" if config.pi05 else "pi0"
        raise InputError(f"{path}: config.json says that this is a {says}, the tensors are a {has}")
    sizes = {
        "image_size": model.vision.image_size,
        "patch_size": model.vision.patch_size,
        "action_dim": model.action_dim,
        "vlm_width": model.vlm.width,
        "vlm_mlp": model.vlm.mlp_dim,
        "action_width": model.action.width,
        "action_mlp": model.action.mlp_dim,
        "vision_width": model.vision.width,
        "vision_mlp": model.vision.mlp_dim,
        "vocab_size": model.vocab_size,
        "head_dim": model.head_dim,
        "depth": model.depth,
        "vision_depth": model.vision.depth,
    }
    wrong = [
        f"{key} is {size}, the tensors have {sizes[name]}"
        for key, (name, size) in config.sizes.items()
        if size != sizes[name]
    ]
    if wrong:
        raise InputError(f"{path}: settings and tensors disagree: {'; '.join(wrong)}")


def _openpi(values: dict[str, Any], path: Path) -> TorchConfig:
    fail(path, problems(values, _OPENPI))
    width = values.get("action_dim")
    return TorchConfig(
        sizes={} if width is None else {"action_dim": ("action_dim", width)},
        action_horizon=values.get("action_horizon"),
        prompt_length=values.get("max_token_len"),
        # openpi's own names, which our exports write; its train_pytorch.py does not.
        pi05=values.get("pi05"),
        state_in_prompt=values.get("discrete_state_input"),
    )
