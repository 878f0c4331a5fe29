"""The architecture, from the tensors' shapes: sizes of the axes of `keymap`, and a Pi0Config."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from pi0_jax.convert.keys.keymap import groups
from pi0_jax.errors import InputError
from pi0_jax.model.config import ExpertConfig, Pi0Config, VisionConfig, pi0, pi05

HEADS, KEYS, VISION_HEADS = "heads head_dim", "kv_heads head_dim", "vision_heads vision_head_dim"
"""Grouped axes of flat PyTorch matrices: a shape has their product, but not the factors."""

HORIZON_ASSUMED = (
    "action horizon 50 is assumed, as of the bases; another needs --action-horizon "
    "(pi0_droid 10, pi05_libero 10, pi05_droid 15)"
)
"""Note for a checkpoint whose files do not say its horizon."""


class Settings(NamedTuple):
    """Settings that no tensor's shape shows.

    Attributes:
        action_horizon: actions per chunk.
        prompt_length: prompt tokens, padding included; None for those of the published model.
        compute_dtype: name of the activations' dtype.
    """

    action_horizon: int = 50
    prompt_length: int | None = None
    compute_dtype: str = "float32"


def vote(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> dict[str, int]:
    """Size of every axis (or group of axes) by a vote of the tensors that have it.

    By majority, one tensor of a wrong shape is reported as wrong, and not all others.

    Args:
        shapes: pairs of axes, such as "(heads head_dim) vlm", and the shape found.
    """
    votes: dict[str, Counter[int]] = defaultdict(Counter)
    for axes, shape in shapes:
        names = groups(axes)
        # A tensor with another number of dimensions has no vote; `tree_check` reports it.
        if len(names) == len(shape):
            for name, size in zip(names, shape, strict=True):
                votes[name][size] += 1
    return {name: counter.most_common(1)[0][0] for name, counter in votes.items()}


def config_from_sizes(sizes: dict[str, int], settings: Settings) -> Pi0Config:
    """Builds and checks the architecture.

    Args:
        sizes: size of every axis of `keymap`, with the grouped ones split into single axes.
        settings: what the shapes do not show.

    Raises:
        InputError: sizes that no pi0 has.
    """
    is_pi05 = "modulation" in sizes
    published = pi05() if is_pi05 else pi0()
    # One position per patch, and the patches form a square.
    side = math.isqrt(sizes["positions"])
    # Relations that the network takes for granted; nothing else would notice a violation.
    wanted = {
        "positions": (side**2, "a square number of image patches"),
        "patch_x": (sizes["patch_y"], "square patches"),
        "action_out": (sizes["action"], "the width of the action expert"),
        **_mixing_widths(sizes["action"], pi05=is_pi05),
        "rgb": (3, "three colours"),
        "vision": (
            sizes["vision_heads"] * sizes["vision_head_dim"],
            "heads times head dimension of the image tower",
        ),
    }
    for name, (size, what) in wanted.items():
        if sizes[name] != size:
            raise InputError(f"not a pi0: axis {name} must be {what} ({size}), got {sizes[name]}")
    return Pi0Config(
        vision=VisionConfig(
            image_size=side * sizes["patch_y"],
            patch_size=sizes["patch_y"],
            width=sizes["vision"],
            depth=sizes["vision_depth"],
            mlp_dim=sizes["vision_mlp"],
            num_heads=sizes["vision_heads"],
        ),
        vlm=ExpertConfig(sizes["vlm"], sizes["vlm_mlp"]),
        action=ExpertConfig(sizes["action"], sizes["action_mlp"]),
        depth=sizes["depth"],
        num_heads=sizes["heads"],
        num_kv_heads=sizes["kv_heads"],
        head_dim=sizes["head_dim"],
        vocab_size=sizes["vocab"],
        action_dim=sizes["dims"],
        action_horizon=settings.action_horizon,
        prompt_length=settings.prompt_length or published.prompt_length,
        compute_dtype=settings.compute_dtype,
        pi05=is_pi05,
    )


def published_sizes(config: Pi0Config) -> bool:
    """Whether the language model has the width and depth of gemma_2b, as every published one."""
    return (config.vlm.width, config.depth) == (pi0().vlm.width, pi0().depth)


def axis_sizes(config: Pi0Config) -> dict[str, int]:
    """Size of every axis of `keymap` in an architecture."""
    vision, width = config.vision, config.action.width
    mixing = _mixing_widths(width, pi05=config.pi05)
    return {
        "vision_depth": vision.depth,
        "vision": vision.width,
        "vision_mlp": vision.mlp_dim,
        "vision_heads": vision.num_heads,
        "vision_head_dim": vision.width // vision.num_heads,
        "patch_y": vision.patch_size,
        "patch_x": vision.patch_size,
        "rgb": 3,
        "positions": vision.num_tokens,
        "depth": config.depth,
        "vlm": config.vlm.width,
        "vlm_mlp": config.vlm.mlp_dim,
        "action": width,
        # The same width again: a square matrix needs two names for its two axes.
        "action_out": width,
        **{name: size for name, (size, _) in mixing.items()},
        "action_mlp": config.action.mlp_dim,
        "heads": config.num_heads,
        "kv_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "vocab": config.vocab_size,
        "dims": config.action_dim,
    }


def _mixing_widths(action: int, *, pi05: bool) -> dict[str, tuple[int, str]]:
    """The axis along which time enters the action expert: its size, and what that is."""
    if pi05:
        # Scale, shift and gate of a norm, side by side.
        return {"modulation": (3 * action, "three times the width of the action expert")}
    # Action token and time embedding, side by side before the first MLP layer.
    return {"action_and_time": (2 * action, "twice the width of the action expert")}
