"""Prompt to token ids and mask: PaliGemma's sentencepiece, or bytes for models from scratch.

A pi0.5 reads its state as text in the prompt: every value as the number of its bin in [-1, 1].

Axis letters: t prompt token, e state dimension.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import sentencepiece

from pi0_jax.data.sentencepiece_file import load_pieces
from pi0_jax.errors import InputError

STATE_BINS = 256
"""Bins of [-1, 1], each as wide as the others; a state below -1 has number -1 (openpi)."""


TOKENIZERS = ("bytes", "paligemma")
BYTE_IDS = 258
"""Ids that `ByteTokenizer` uses: 0 to 257."""


class Tokenizer(Protocol):
    """Turns a prompt into ids that start with begin-of-sequence."""

    @property
    def kind(self) -> str:
        """Name of the tokenizer in config.json."""
        ...

    def encode(self, prompt: str, state: Sequence[int] | None = None) -> list[int]:
        """Token ids of any length.

        Args:
            prompt: the instruction; it is cleaned.
            state: the state as numbers of bins; None for a prompt without it.
        """
        ...


@dataclass(frozen=True)
class ByteTokenizer:
    """UTF-8 bytes as ids: 0 is padding, 1 begins the sequence, byte b is b + 2."""

    kind: str = "bytes"

    def encode(self, prompt: str, state: Sequence[int] | None = None) -> list[int]:
        """[bos] + bytes, and without a state a newline."""
        text = clean(prompt) + "\n" if state is None else with_state(prompt, state)
        return [1] + [byte + 2 for byte in text.encode()]


@dataclass(frozen=True)
class PaligemmaTokenizer:
    """The official sentencepiece model (`paligemma_tokenizer.model`).

    Attributes:
        model: path of the model file.
        vocab_size: rows of the network's token embedding, to which every id belongs.
    """

    model: Path
    vocab_size: int
    kind: str = "paligemma"

    # Loaded at the first prompt: a policy folder can be opened without the file.
    @cached_property
    def _processor(self) -> sentencepiece.SentencePieceProcessor:
        return load_pieces(self.model, self.vocab_size)

    def encode(self, prompt: str, state: Sequence[int] | None = None) -> list[int]:
        """[bos] + pieces, and without a state a newline piece, as openpi's PaligemmaTokenizer."""
        pieces = self._processor
        if state is not None:
            return [pieces.bos_id(), *pieces.encode(with_state(prompt, state))]
        # The newline is encoded by itself: joined to the last word it could merge into one piece.
        return [pieces.bos_id(), *pieces.encode(clean(prompt)), *pieces.encode("\n")]


def open_tokenizer(kind: str, model: Path, vocab_size: int) -> Tokenizer:
    """The tokenizer of a policy folder; all its ids are rows of the network's token embedding.

    Args:
        kind: "bytes" or "paligemma", as config.json has it.
        model: PaliGemma's model file. It is read and checked at the first prompt.
        vocab_size: rows of the token embedding.

    Raises:
        InputError: no such kind, or the embedding has no row for some byte.
    """
    if kind == "paligemma":
        return PaligemmaTokenizer(model, vocab_size)
    if kind != "bytes":
        raise InputError(f"tokenizer must be 'bytes' or 'paligemma', got {kind!r}")
    if vocab_size < BYTE_IDS:
        raise InputError(
            f"tokenizer 'bytes' has ids up to {BYTE_IDS - 1}, the network {vocab_size} rows; "
            f"expected vocab_size of at least {BYTE_IDS}"
        )
    return ByteTokenizer()


def clean(prompt: str) -> str:
    """Strips, and turns underscores and newlines into spaces (openpi `tokenizer.py`)."""
    return prompt.strip().replace("_", " ").replace("\n", " ")


def state_bins(state: np.ndarray) -> list[int]:
    """Numbers of the bins of a normalised state float[e]: -1 below -1, then 0 to 255."""
    edges = np.linspace(-1, 1, STATE_BINS + 1)[:-1]
    # The number of edges that a value has reached, less one.
    return (np.digitize(state, edges) - 1).tolist()


def longest_state(width: int) -> list[int]:
    """The bins of a state of `width` values that need the most tokens."""
    return [STATE_BINS - 1] * width


def with_state(prompt: str, state: Sequence[int]) -> str:
    """What a pi0.5 reads, such as "Task: lift it, State: 12 255;" and "Action: " on a new line."""
    return f"Task: {clean(prompt)}, State: {' '.join(map(str, state))};\nAction: "


def pad_prompt(ids: list[int], length: int) -> tuple[np.ndarray, np.ndarray]:
    """int32[t] padded with 0 and bool[t], both of `length`.

    Raises:
        InputError: the prompt is longer. To cut it would silently change the instruction.
    """
    if len(ids) > length:
        raise InputError(
            f"a prompt of {len(ids)} tokens does not fit the model's {length}; "
            "shorten the instruction or raise prompt_length"
        )
    padded = np.zeros(length, np.int32)
    # Padding has id 0 and is masked: its embedding is never read.
    padded[: len(ids)] = ids
    return padded, np.arange(length) < len(ids)
