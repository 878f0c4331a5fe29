"""Reads a sentencepiece model and checks that it is the one that a network was trained with."""

from pathlib import Path

import sentencepiece

from pi0_jax.errors import InputError
from pi0_jax.plain_file import read_bytes

PALIGEMMA_PIECES = 257_152
"""Gemma's 256,000, then <loc0000> to <loc1023> and <seg000> to <seg127>
(big_vision `configs/proj/paligemma/README.md`)."""

# Rows of the published token embeddings: one per piece in openpi's and lerobot's checkpoints, and
# padded with rows that no id reads in PaliGemma's own of Hugging Face (openpi#627).
_PUBLISHED_ROWS = (PALIGEMMA_PIECES, 257_216)

# Ids that PaliGemma's file gives to texts, as public tests state them:
# - a pi0.5's prompt and the number of pieces: lixuan27/wLLM
#   `native/cpp/tests/test_text_tokenizer.cpp` (other ports of openpi print the same ids);
# - "This is a test": transformers `tests/models/gemma/test_tokenization_gemma.py`.
_KNOWN_IDS = {
    "\n": [108],
    "This is a test": [1596, 603, 476, 2121],
    "Task: pick up": [7071, 235292, 4788, 908],
    ", State: 12": [235269, 3040, 235292, 235248, 235274, 235284],
    ";\nAction: ": [235289, 108, 4022, 235292, 235248],
}
# Pieces that are no text, in the order of big_vision's README.
_SPECIAL_IDS = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<loc0000>": 256_000, "<seg127>": 257_151}

_WHERE = "take paligemma_tokenizer.model from gs://big_vision/paligemma_tokenizer.model"


def load_pieces(path: Path, vocab_size: int) -> sentencepiece.SentencePieceProcessor:
    """Reads a model whose every id is a row of the network's token embedding.

    Args:
        path: the model file.
        vocab_size: rows of the token embedding. For those of published checkpoints the model must
            be PaliGemma's.

    Raises:
        InputError: there is no such file, it is no sentencepiece model, has no begin-of-sequence,
            or more pieces than the embedding has rows, or it should be PaliGemma's and is not.
    """
    pieces = _parse(path)
    count = pieces.vocab_size()
    if count > vocab_size:
        # Looking up a row past the end would silently give the last one.
        raise InputError(
            f"{path}: this tokenizer has {count:,} pieces, the network {vocab_size:,} rows; "
            "take the tokenizer that it was trained with"
        )
    if pieces.bos_id() < 0:
        raise InputError(
            f"{path}: this tokenizer has no begin-of-sequence piece, with which every prompt "
            "starts; take the one that the network was trained with"
        )
    if vocab_size in _PUBLISHED_ROWS:
        _check_paligemma(pieces, path)
    return pieces


def _parse(path: Path) -> sentencepiece.SentencePieceProcessor:
    if not path.is_file():
        raise InputError(f"{path}: expected PaliGemma's sentencepiece model; {_WHERE}")
    content = read_bytes(path)
    # An empty file would parse, as a model without pieces.
    problem = None if content else "it is empty"
    try:
        if problem is None:
            return sentencepiece.SentencePieceProcessor(model_proto=content)
    except RuntimeError:
        # The library's own words name a line of its source.
        problem = f"{len(content):,} bytes that are none, or are cut off"
    raise InputError(f"{path}: expected a sentencepiece model, but {problem}; {_WHERE}")


def _check_paligemma(pieces: sentencepiece.SentencePieceProcessor, path: Path) -> None:
    count = pieces.vocab_size()
    if count != PALIGEMMA_PIECES:
        raise InputError(
            f"{path}: expected PaliGemma's tokenizer of {PALIGEMMA_PIECES:,} pieces, got one of "
            f"{count:,}; {_WHERE}"
        )
    found = {text: pieces.encode(text) for text in _KNOWN_IDS}
    found |= {piece: pieces.piece_to_id(piece) for piece in _SPECIAL_IDS}
    for text, wanted in (_KNOWN_IDS | _SPECIAL_IDS).items():
        if found[text] != wanted:
            raise InputError(
                f"{path}: not PaliGemma's tokenizer, whose ids of {text!r} are {wanted}; this one "
                f"gives {found[text]}; {_WHERE}"
            )
