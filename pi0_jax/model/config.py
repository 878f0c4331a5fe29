"""The sizes of a pi0 or pi0.5 in one frozen value, and the named presets."""

from dataclasses import dataclass, field, replace
from typing import Annotated

from pi0_jax.errors import InputError
from pi0_jax.ranges import check_ranges

DTYPES = ("float32", "bfloat16")

# Far above every model there is: beyond, a file is damaged or means harm.
Size = Annotated[int, "[1, 1e6]"]
Count = Annotated[int, "[1, 1e4]"]


@dataclass(frozen=True)
class VisionConfig:
    """SigLIP image tower. Defaults: So400m/14 at 224 px, as in PaliGemma."""

    image_size: Count = 224
    patch_size: Count = 14
    width: Size = 1152
    depth: Count = 27
    mlp_dim: Size = 4304
    num_heads: Count = 16

    @property
    def num_tokens(self) -> int:
        """Tokens of one image: (image_size / patch_size) squared."""
        return (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True)
class ExpertConfig:
    """The sizes in which the two experts differ: residual width and MLP width."""

    width: Size
    mlp_dim: Size


@dataclass(frozen=True)
class Pi0Config:
    """Architecture of pi0. Defaults: the published model (3,238,048,528 parameters).

    Depth, heads and head dimension are common to both experts, because every layer's attention
    runs over both. `heads * head_dim` need not equal a width.

    Attributes:
        vision: image tower.
        vlm: expert 0, for images and prompt (Gemma-2B).
        action: expert 1, for state and actions (300M parameters).
        depth: number of layers, equal in both experts.
        num_heads: query heads.
        num_kv_heads: key/value heads; divides num_heads.
        head_dim: dimension of one head, even.
        vocab_size: rows of the token embedding.
        action_dim: padded dimension d of state and actions.
        action_horizon: number of actions H per chunk.
        prompt_length: number of prompt tokens t, padding included.
        compute_dtype: dtype of activations in both towers. Projections of state and actions,
            norms' statistics, the decoder's softmax and the output are always float32.
        pi05: the architecture is pi0.5's (arXiv 2504.16054): the flow time scales, shifts and
            gates every layer of the action expert (adaRMS), where pi0 mixes it into the action
            tokens; and no token holds the state, which the prompt may hold as text
            (`PolicySpec.state_in_prompt`).
    """

    vision: VisionConfig = field(default_factory=VisionConfig)
    # openpi `models/gemma.py`: "gemma_2b" and "gemma_300m".
    vlm: ExpertConfig = field(default_factory=lambda: ExpertConfig(2048, 16384))
    action: ExpertConfig = field(default_factory=lambda: ExpertConfig(1024, 4096))
    depth: Count = 18
    num_heads: Count = 8
    num_kv_heads: Count = 1
    head_dim: Count = 256
    # PaliGemma's, with the tokens for locations and segments.
    vocab_size: Annotated[int, "[1, 1e7]"] = 257152
    action_dim: Count = 32
    action_horizon: Count = 50
    prompt_length: Count = 48
    compute_dtype: str = "bfloat16"
    pi05: bool = False

    def __post_init__(self) -> None:
        """Checks what must divide what.

        Raises:
            InputError: with the field, what it must satisfy and what it is.
        """
        vision = self.vision
        for part in (vision, self.vlm, self.action, self):
            check_ranges(f"model config: {type(part).__name__}", part)
        for holds, message in (
            (
                vision.image_size % vision.patch_size == 0,
                f"vision.image_size must be a multiple of vision.patch_size, got "
                f"{vision.image_size} and {vision.patch_size}",
            ),
            (
                vision.width % vision.num_heads == 0,
                f"vision.width must be a multiple of vision.num_heads, got "
                f"{vision.width} and {vision.num_heads}",
            ),
            (
                self.num_heads % self.num_kv_heads == 0,
                f"num_heads must be a multiple of num_kv_heads, got "
                f"{self.num_heads} and {self.num_kv_heads}",
            ),
            (self.head_dim % 2 == 0, f"head_dim must be even (RoPE), got {self.head_dim}"),
            (self.action.width % 2 == 0, f"action.width must be even, got {self.action.width}"),
            (
                self.compute_dtype in DTYPES,
                f"compute_dtype must be one of {DTYPES}, got {self.compute_dtype!r}",
            ),
        ):
            if not holds:
                raise InputError(f"model config: {message}")


def pi0() -> Pi0Config:
    """The published pi0: SigLIP So400m/14, Gemma-2B, 300M action expert."""
    return Pi0Config()


def pi05() -> Pi0Config:
    """The published pi0.5 (3,353,433,872 parameters): a prompt with room for the state as text."""
    return replace(pi0(), pi05=True, prompt_length=200)


def tiny() -> Pi0Config:
    """Every part of pi0 at a size that a CPU trains from scratch in a minute (0.7 M parameters)."""
    return Pi0Config(
        vision=VisionConfig(
            image_size=64, patch_size=32, width=96, depth=1, mlp_dim=192, num_heads=4
        ),
        vlm=ExpertConfig(width=96, mlp_dim=192),
        action=ExpertConfig(width=64, mlp_dim=128),
        depth=2,
        num_heads=4,
        num_kv_heads=1,
        head_dim=16,
        vocab_size=260,  # the ids of `ByteTokenizer` end at 257
        action_dim=8,
        action_horizon=16,
        prompt_length=16,
        compute_dtype="float32",
    )


def tiny_pi05() -> Pi0Config:
    """`tiny` as a pi0.5."""
    return replace(tiny(), pi05=True)


PRESETS = {"pi0": pi0, "pi05": pi05, "tiny": tiny, "tiny_pi05": tiny_pi05}


def preset(name: str) -> Pi0Config:
    """Looks up a preset by name.

    Raises:
        InputError: there is no such preset; the message lists those that exist.
    """
    if name not in PRESETS:
        raise InputError(f"model preset must be one of {sorted(PRESETS)}, got {name!r}")
    return PRESETS[name]()
