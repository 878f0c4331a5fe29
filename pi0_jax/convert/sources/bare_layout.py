"""RLinf's bare layout ("OpenPI_RLinf", from RLinf 0.4 on) under openpi's PyTorch names.

Its network is openpi's JAX one, written in PyTorch: query, key and value of the image tower lie in
one tensor, gate and up-projection of a decoder in another, and the decoders' MLPs are not
transposed. Every tensor is shown as those of openpi that it holds, so one table (`keymap.py`) does
for both.
Names and axes: RLinf `rlinf/utils/ckpt_convertor/openpi/openpi_rlinf_to_openpi_pytorch.py`.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pi0_jax.convert.files.torch_files import Tensors
from pi0_jax.convert.keys.keymap import OPENPI
from pi0_jax.errors import InputError

NOTE = "RLinf's bare names (img, llm), read as openpi's"


class Piece(NamedTuple):
    r"""A tensor of openpi's inside one of RLinf's.

    Attributes:
        name: openpi's name; \1 and so on are the groups of the pattern.
        part: which of `parts` equal parts of the first axis; None for the whole tensor.
        parts: how many there are.
        stacked: whether the first axis only counts the parts, and disappears.
        transposed: whether the two axes that are left change places.
    """

    name: str
    part: int | None = None
    parts: int = 1
    stacked: bool = False
    transposed: bool = False


def _thirds(*names: str) -> list[Piece]:
    return [Piece(name, i, 3) for i, name in enumerate(names)]


_IMG, _BLOCK = OPENPI.vision, rf"{OPENPI.vision}.encoder.layers.\1"
_TENSOR = r"(weight|bias)"


def _decoder(number: int, tower: str) -> list[tuple[str, list[Piece]]]:
    """Patterns of one expert."""
    ours, layer = r"llm\.layers\.(\d+)\.", rf"{tower}.layers.\1"
    found = [
        (rf"{ours}attn\.([qkvo]_proj)\.{number}\.weight", [Piece(rf"{layer}.self_attn.\2.weight")]),
        (
            rf"{ours}mlps\.{number}\.w_gating",
            [
                Piece(rf"{layer}.mlp.{name}_proj.weight", i, 2, stacked=True, transposed=True)
                for i, name in enumerate(("gate", "up"))
            ],
        ),
        (
            rf"{ours}mlps\.{number}\.w_linear",
            [Piece(rf"{layer}.mlp.down_proj.weight", transposed=True)],
        ),
    ]
    for theirs, norm in (
        (rf"{ours}pre_attention_norms", rf"{layer}.input_layernorm"),
        (rf"{ours}pre_ffw_norms", rf"{layer}.post_attention_layernorm"),
    ):
        adaptive = Piece(rf"{norm}.dense.\2")
        found.append((rf"{theirs}\.{number}\.scale", [Piece(f"{norm}.weight")]))
        found.append((rf"{theirs}\.{number}\.ada_modulation\.{_TENSOR}", [adaptive]))
    last = rf"llm\.final_norms\.{number}\."
    found.append((rf"{last}scale", [Piece(f"{tower}.norm.weight")]))
    found.append((rf"{last}ada_modulation\.{_TENSOR}", [Piece(rf"{tower}.norm.dense.\1")]))
    return found


_PATTERNS: list[tuple[str, list[Piece]]] = [
    (rf"img\.stem\.{_TENSOR}", [Piece(rf"{_IMG}.embeddings.patch_embedding.\1")]),
    (
        r"img\.pos_embedding",
        [Piece(f"{_IMG}.embeddings.position_embedding.weight", 0, 1, stacked=True)],
    ),
    (rf"img\.encoder\.layers\.(\d+)\.norm([12])\.{_TENSOR}", [Piece(rf"{_BLOCK}.layer_norm\2.\3")]),
    (
        rf"img\.encoder\.layers\.(\d+)\.attn\.in_proj_{_TENSOR}",
        _thirds(*(rf"{_BLOCK}.self_attn.{name}_proj.\2" for name in "qkv")),
    ),
    (
        rf"img\.encoder\.layers\.(\d+)\.attn\.out_proj\.{_TENSOR}",
        [Piece(rf"{_BLOCK}.self_attn.out_proj.\2")],
    ),
    (rf"img\.encoder\.layers\.(\d+)\.mlp\.(fc[12])\.{_TENSOR}", [Piece(rf"{_BLOCK}.mlp.\2.\3")]),
    (rf"img\.encoder\.norm\.{_TENSOR}", [Piece(rf"{_IMG}.post_layernorm.\1")]),
    (rf"img\.head\.{_TENSOR}", [Piece(rf"{OPENPI.projector}.linear.\1")]),
    (r"llm\.embedder\.embedding\.weight", [Piece(f"{OPENPI.vlm}.embed_tokens.weight")]),
    *_decoder(0, OPENPI.vlm),
    *_decoder(1, OPENPI.expert),
]


class Bare:
    """`Tensors` of RLinf's bare layout under openpi's names; in no pattern, a name stays."""

    def __init__(self, tensors: Tensors, path: Path):
        """Reads no values yet.

        Args:
            tensors: under RLinf's names, without prefixes.
            path: where they lie, for messages.

        Raises:
            InputError: a tensor cannot be cut into its parts, or two give one of openpi's.
        """
        self._tensors = tensors
        self.files, self.metadata, self.beside = tensors.files, tensors.metadata, tensors.beside
        self._pieces: dict[str, tuple[str, Piece]] = {}
        for key, shape in tensors.shapes.items():
            for piece in _pieces(key, tensors):
                if piece.part is not None and not _fits(shape, piece):
                    raise InputError(
                        f"{path}: {key} has shape {list(shape)}; expected {piece.parts} equal parts"
                    )
                if piece.name in self._pieces:
                    twice = self._pieces[piece.name][0]
                    raise InputError(f"{path}: {twice} and {key} are both {piece.name}")
                self._pieces[piece.name] = key, piece
        self.dtypes = {name: tensors.dtypes[key] for name, (key, _) in self._pieces.items()}
        self.shapes = {
            name: _shape(tensors.shapes[key], piece) for name, (key, piece) in self._pieces.items()
        }

    def read(self, key: str) -> np.ndarray:
        """The values of one tensor; a view where NumPy can make one."""
        stored, piece = self._pieces[key]
        values = self._tensors.read(stored)
        if piece.part is not None:
            values = np.split(values, piece.parts)[piece.part]
        values = values[0] if piece.stacked else values
        return values.T if piece.transposed else values


def is_bare(tensors: Tensors) -> bool:
    """Whether the names are those of RLinf's bare layout."""
    tops = {key.split(".")[0] for key in tensors.shapes}
    return {"img", "llm"} <= tops


def _pieces(key: str, tensors: Tensors) -> Iterator[Piece]:
    """What a tensor holds, with openpi's names."""
    for pattern, pieces in _PATTERNS:
        match = re.fullmatch(pattern, key)
        if match is None:
            continue
        # With as many key heads as query heads, q_proj holds all three.
        fused = ".q_proj." in key and key.replace(".q_proj.", ".k_proj.") not in tensors.shapes
        for piece in _thirds(*(pieces[0].name,) * 3) if fused else pieces:
            name = match.expand(piece.name)
            if fused:
                name = name.replace("q_proj", f"{'qkv'[piece.part or 0]}_proj")
            yield piece._replace(name=name)
        return
    yield Piece(key)


def _fits(shape: tuple[int, ...], piece: Piece) -> bool:
    if not shape:
        return False
    return shape[0] == piece.parts if piece.stacked else shape[0] % piece.parts == 0


def _shape(shape: tuple[int, ...], piece: Piece) -> tuple[int, ...]:
    if piece.stacked:
        shape = shape[1:]
    elif piece.part is not None:
        shape = (shape[0] // piece.parts, *shape[1:])
    return shape[::-1] if piece.transposed else shape
