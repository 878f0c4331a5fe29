"""Which PyTorch layout a set of keys is, and which keys a complete checkpoint of it has."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from pi0_jax.convert.keymap import EMBEDDING, LAYOUTS, LEAVES, Leaf, Tensor, TorchLayout
from pi0_jax.convert.torch_config import TorchConfig
from pi0_jax.errors import InputError

FAMILIES = tuple(sorted({layout.family for layout in LAYOUTS}))

Expected = dict[str, tuple[Leaf, Tensor]]
"""Key to the leaf and the table entry that it serves."""

# transformers up to 5.5 has one more level; nothing else distinguishes the names.
_OPTIONAL_LEVEL = ("vision_tower.vision_model.", "vision_tower.")
_EXPERT_WORDS, _WORDS = "vocab action", "vocab vlm"


def recognise(keys: Iterable[str], path: Path) -> TorchLayout:
    """The layout whose names fit most of the keys.

    Raises:
        InputError: pi0.5, or none fits.
    """
    names = set(keys)
    if any("time_mlp_in" in key and "action_time_mlp_in" not in key for key in names):
        raise InputError(
            f"{path}: this is a pi0.5 checkpoint (it has time_mlp_in); only pi0 is supported"
        )
    tensors = [tensor for leaf in LEAVES for tensor in leaf.tensors]
    scores = {
        layout.name: sum(layout.key(tensor) in names for tensor in tensors) for layout in LAYOUTS
    }
    best = max(LAYOUTS, key=lambda layout: scores[layout.name])
    if scores[best.name] < len(tensors) // 2:
        some = ", ".join(sorted(names)[:3])
        raise InputError(
            f"{path}: {len(names)} keys of no known pi0 layout, such as {some}; known: "
            + ", ".join(layout.name for layout in LAYOUTS)
        )
    return best


def check_family(layout: TorchLayout, family: str, config: TorchConfig, path: Path) -> None:
    """The layout is what --layout says.

    Raises:
        InputError: it is another.
    """
    # transformers also writes openpi's names (after loading them); its config.json tells.
    wrote_openpi_names = family == "transformers" and config.is_transformers
    if family in ("auto", layout.family) or (layout.family == "openpi" and wrote_openpi_names):
        return
    raise InputError(
        f"--layout {family}: the keys of {path} are those of {layout.name}; "
        f"use --layout {layout.family} or leave it out"
    )


def without_optional_level(keys: Iterable[str], path: Path) -> dict[str, str]:
    """Key without the level `vision_model.` to key on disk.

    Raises:
        InputError: both spellings of one tensor.
    """
    found: dict[str, str] = {}
    for key in keys:
        short = key.replace(*_OPTIONAL_LEVEL)
        if short in found:
            raise InputError(f"{path}: {key} and {found[short]} are the same tensor twice")
        found[short] = key
    return found


def expected_keys(layout: TorchLayout, depths: dict[str, int], embedding: str) -> Expected:
    """Every key that a complete checkpoint has.

    Args:
        layout: prefixes.
        depths: layers of both kinds of tower, by axis name.
        embedding: where the token embedding is.
    """
    found: Expected = {}
    for leaf in LEAVES:
        for i in range(depths[leaf.depth] if leaf.depth else 1):
            for tensor in leaf.tensors:
                key = embedding if leaf is EMBEDDING else layout.key(tensor, i)
                found[key] = leaf, tensor
    return found


def embedding_key(layout: TorchLayout, keys: Iterable[str]) -> str:
    """Where the token embedding is.

    safetensors keeps one name of a tied pair, the alphabetically first: lm_head. lerobot from 0.5
    on unties the pair; then the embedding has its own name and lm_head holds anything.
    """
    key, names = layout.key(EMBEDDING.tensors[0]), set(keys)
    tied = layout.lm_head is not None and layout.lm_head in names and key not in names
    return layout.lm_head if tied and layout.lm_head else key


def unused_keys(
    layout: TorchLayout, keys: Iterable[str], embedding: str
) -> dict[str, tuple[str, str]]:
    """Keys that no forward pass reads: their axes, and the reason."""
    known = {key: (_EXPERT_WORDS, why) for key, why in layout.unused.items()}
    if layout.lm_head and layout.lm_head != embedding:
        known[layout.lm_head] = _WORDS, "stale: the token embedding has a tensor of its own"
    return {key: known[key] for key in keys if key in known}


def depth(keys: Iterable[str], prefix: str) -> int:
    """Layers: indices that have at least half as many keys as the fullest has."""
    indices = [key.removeprefix(prefix).split(".")[0] for key in keys if key.startswith(prefix)]
    counts = Counter(int(index) for index in indices if index.isdigit())
    full = max(counts.values(), default=0)
    return 1 + max((i for i, count in counts.items() if 2 * count >= full), default=0)
