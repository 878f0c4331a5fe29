"""Recognises a PyTorch layout by its keys, and lists the keys of a complete checkpoint."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from pi0_jax.convert.keys.architecture import axis_sizes
from pi0_jax.convert.keys.keymap import EMBEDDING, LAYOUTS, Leaf, Tensor, TorchLayout, leaves
from pi0_jax.convert.settings.declared import TorchConfig
from pi0_jax.errors import InputError
from pi0_jax.model.config import pi0

FAMILIES = tuple(sorted({layout.family for layout in LAYOUTS}))

Expected = dict[str, tuple[Leaf, Tensor]]
"""Key to its leaf and its entry in the table."""

# transformers up to 5.5 has one level more; the names are otherwise the same.
_OPTIONAL_LEVEL = ("vision_tower.vision_model.", "vision_tower.")
_EXPERT_WORDS, _WORDS = "vocab action", "vocab vlm"


def recognise(keys: Iterable[str], path: Path) -> tuple[TorchLayout, bool]:
    """The layout whose names fit most of the keys, and whether the model is a pi0.5.

    Args:
        keys: names of the tensors, without the optional level.
        path: where they lie, for messages.

    Raises:
        InputError: no layout fits.
    """
    names = set(keys)
    # Layer 0 of each tensor: every layout has it, and the depth is not known yet.
    choices = [
        (layout, pi05, [layout.key(t) in names for leaf in leaves(pi05=pi05) for t in leaf.tensors])
        for layout in LAYOUTS
        for pi05 in (False, True)
    ]
    layout, pi05, found = max(choices, key=lambda choice: sum(choice[2]))
    # Half is enough, so that an incomplete checkpoint gets the list of what it lacks.
    if sum(found) < len(found) // 2:
        known = {
            layout.key(t)
            for layout, pi05, _ in choices
            for leaf in leaves(pi05=pi05)
            for t in leaf.tensors
        }
        some = ", ".join(sorted(names - known or names)[:3])
        raise InputError(
            f"{path}: {len(names)} keys of no known pi0 layout, such as {some}; known: "
            + ", ".join(layout.name for layout in LAYOUTS)
        )
    return layout, pi05


def check_family(layout: TorchLayout, family: str, config: TorchConfig, path: Path) -> None:
    """Checks the layout against --layout.

    Args:
        layout: the layout that the keys have.
        family: value of --layout.
        config: what the checkpoint's config.json declares.
        path: where it lies, for messages.

    Raises:
        InputError: the layout is another.
    """
    # transformers also writes openpi's names (after loading them); its config.json shows it.
    wrote_openpi_names = family == "transformers" and config.is_transformers
    if family in ("auto", layout.family) or (layout.family == "openpi" and wrote_openpi_names):
        return
    raise InputError(
        f"--layout {family}: the keys of {path} are those of {layout.name}; "
        f"use --layout {layout.family} or leave it out"
    )


def without_optional_level(keys: Iterable[str], path: Path) -> dict[str, str]:
    """Maps each key without the level `vision_model.` to the key on disk.

    Raises:
        InputError: a tensor is there under both spellings.
    """
    found: dict[str, str] = {}
    for key in keys:
        short = key.replace(*_OPTIONAL_LEVEL)
        if short in found:
            raise InputError(f"{path}: {key} and {found[short]} are the same tensor twice")
        found[short] = key
    return found


def expected_keys(
    layout: TorchLayout, depths: dict[str, int], embedding: str, *, pi05: bool
) -> Expected:
    """Every key that a complete checkpoint has.

    Args:
        layout: prefixes of the names.
        depths: axis name ("depth", "vision_depth") to number of layers.
        embedding: key of the token embedding.
        pi05: whether the model is a pi0.5.
    """
    found: Expected = {}
    for leaf in leaves(pi05=pi05):
        for i in range(depths[leaf.depth] if leaf.depth else 1):
            for tensor in leaf.tensors:
                key = embedding if leaf is EMBEDDING else layout.key(tensor, i)
                found[key] = leaf, tensor
    return found


def embedding_key(layout: TorchLayout, keys: Iterable[str]) -> str:
    """Key of the token embedding.

    safetensors keeps one name of a tied pair, the alphabetically first: lm_head. lerobot unties
    the pair from 0.5 on; then the embedding has its own name and lm_head holds anything.
    """
    key, names = layout.key(EMBEDDING.tensors[0]), set(keys)
    tied = layout.lm_head is not None and layout.lm_head in names and key not in names
    return layout.lm_head if tied and layout.lm_head else key


def unused_keys(
    layout: TorchLayout, keys: Iterable[str], embedding: str
) -> dict[str, tuple[str, str]]:
    """Keys that no forward pass reads: their axes, and the reason."""
    # Their shapes are checked too, so a renamed weight cannot pass as unused.
    known = {key: (_EXPERT_WORDS, why) for key, why in layout.unused.items()}
    if layout.lm_head and layout.lm_head != embedding:
        known[layout.lm_head] = _WORDS, "stale: the token embedding has a tensor of its own"
    return {key: known[key] for key in keys if key in known}


def check_depths(
    depths: dict[str, int], sizes: dict[str, int], config: TorchConfig, path: Path
) -> None:
    """Checks that a tower of a published width has that one's layers: the last may be missing.

    Args:
        depths: axis name ("depth", "vision_depth") to number of layers.
        sizes: axis name to size, by the tensors.
        config: what the checkpoint's config.json declares; a declared depth is right.
        path: where it lies, for messages.

    Raises:
        InputError: it has another number, which no file declares.
    """
    published = axis_sizes(pi0())
    for width, axis in (("vlm", "depth"), ("vision", "vision_depth")):
        known = axis in config.depths or sizes.get(width) != published[width]
        if not known and depths[axis] != published[axis]:
            what = "a language model" if width == "vlm" else "an image tower"
            raise InputError(
                f"{path}: {depths[axis]} layers of {axis}, {what} of width {sizes[width]}, which "
                f"has {published[axis]} where it is published; fetch the checkpoint again"
            )


def depth(keys: Iterable[str], prefix: str) -> int:
    """Number of layers: up to the last one that has at least half the keys of the fullest one.

    So a layer that lacks a key still counts, and is reported; a stray key does not make a layer.
    """
    indices = [key.removeprefix(prefix).split(".")[0] for key in keys if key.startswith(prefix)]
    # Three digits at most: a stray name such as layers.1000000 makes no million of layers.
    counts = Counter(int(index) for index in indices if re.fullmatch("[0-9]{1,3}", index))
    full = max(counts.values(), default=0)
    return 1 + max((i for i, count in counts.items() if 2 * count >= full), default=0)
