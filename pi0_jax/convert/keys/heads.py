"""How many heads a flat PyTorch matrix holds: from the user, the file, or the layout's code.

A PyTorch q_proj of 2048 rows may be 8 heads of 256 or 16 of 128, and nothing in it says which. The
first of these that has a number decides: a flag; what the file declares (transformers' config.json,
or our own exports); what the layout's code fixes. If none has, it is an error, never a guess.
"""

from collections.abc import Mapping
from typing import NamedTuple

from pi0_jax.convert.keys.architecture import HEADS, KEYS, VISION_HEADS
from pi0_jax.errors import InputError

KNOWN_TOWERS = {(1152, 4304): 16, (48, 96): 4}
"""(width, MLP width) -> heads of the image towers that exist: So400m, and the reference data's."""


class DeclaredHeads(NamedTuple):
    """Head counts that a file or the user states; None where it does not.

    Attributes:
        num_heads: query heads of both experts.
        num_kv_heads: key/value heads of both experts.
        vision_heads: heads of the image tower.
    """

    num_heads: int | None = None
    num_kv_heads: int | None = None
    vision_heads: int | None = None


UNKNOWN = DeclaredHeads()


def split(
    sizes: Mapping[str, int],
    flags: DeclaredHeads,
    declared: DeclaredHeads,
    layout_heads: int | None = None,
) -> dict[str, int]:
    """Splits the sizes of grouped axes into those of single ones.

    Args:
        sizes: from `architecture.vote` of a PyTorch layout.
        flags: head counts from the command line; they come first.
        declared: head counts from the file.
        layout_heads: query heads that the layout's code fixes, if it does.

    Returns:
        Sizes of every single axis of `keymap`.

    Raises:
        InputError: an ambiguous or impossible number of heads, with the flag that decides it.
    """
    # Rows of q_proj and of k_proj: heads times head dimension.
    queries, keys = sizes[HEADS], sizes[KEYS]
    heads, kv_heads = _decoder_heads(queries, keys, flags, declared, layout_heads)
    # Query and key heads have the same dimension, queries / heads.
    if queries % heads or (queries // heads) * kv_heads != keys:
        raise InputError(
            f"{heads} query and {kv_heads} key/value heads do not fit q_proj of {queries} and "
            f"k_proj of {keys} rows; give the right --num-heads"
        )
    vision = _vision_heads(sizes, flags, declared)
    single = {name: size for name, size in sizes.items() if " " not in name}
    return single | {
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": queries // heads,
        "vision_heads": vision,
        "vision_head_dim": sizes[VISION_HEADS] // vision,
    }


def _decoder_heads(
    queries: int, keys: int, flags: DeclaredHeads, declared: DeclaredHeads, layout_heads: int | None
) -> tuple[int, int]:
    heads = flags.num_heads or declared.num_heads
    if heads is None and layout_heads and queries == layout_heads * keys:
        # The layout's code fixes 8 query heads, and all its variants have one key head; the
        # shapes agree with both.
        return layout_heads, 1
    if heads is None:
        raise InputError(
            f"q_proj has {queries} rows and k_proj {keys}, which does not show the number of "
            "heads, and neither does the checkpoint's config; give --num-heads"
        )
    # A flag that corrects the file's query heads makes its key heads doubtful too.
    kv_heads = None if flags.num_heads else declared.num_kv_heads
    # All heads have dimension queries / heads, so k_proj holds keys / (queries / heads) of them.
    return heads, kv_heads or max(1, heads * keys // queries)


def _vision_heads(sizes: Mapping[str, int], flags: DeclaredHeads, declared: DeclaredHeads) -> int:
    width, mlp = sizes["vision"], sizes["vision_mlp"]
    # Both widths together identify the towers that exist; a guess from one could be wrong.
    heads = flags.vision_heads or declared.vision_heads or KNOWN_TOWERS.get((width, mlp))
    if heads is None:
        raise InputError(
            f"an image tower of width {width} and MLP width {mlp} is not known, and neither the "
            "tensors nor the config show its number of heads; give --vision-heads"
        )
    if width % heads:
        raise InputError(
            f"{heads} heads do not divide the image tower's width {width}; give the right "
            "--vision-heads"
        )
    return heads
