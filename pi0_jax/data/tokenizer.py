"""Prompt to token ids and mask: PaliGemma's sentencepiece, or bytes for models from scratch.

Axis letter: t prompt token.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import sentencepiece

from pi0_jax.errors import InputError


class Tokenizer(Protocol):
    """Turns a cleaned prompt into ids, with begin-of-sequence and a final newline."""

    @property
    def kind(self) -> str:
        """Name of the tokenizer in config.json."""
        ...

    def encode(self, prompt: str) -> list[int]:
        """Token ids of any length."""
        ...


@dataclass(frozen=True)
class ByteTokenizer:
    """UTF-8 bytes as ids: 0 is padding, 1 begins the sequence, byte b is b + 2."""

    kind: str = "bytes"

    def encode(self, prompt: str) -> list[int]:
        """[bos] + bytes + newline; vocabulary 258."""
        return [1] + [byte + 2 for byte in (clean(prompt) + "\n").encode()]


@dataclass(frozen=True)
class PaligemmaTokenizer:
    """The official sentencepiece model (`paligemma_tokenizer.model`).

    Attributes:
        model: path of the model file.
    """

    model: Path
    kind: str = "paligemma"

    # Loaded at the first prompt: a policy folder can be opened without the file.
    @cached_property
    def _processor(self) -> sentencepiece.SentencePieceProcessor:
        if not self.model.is_file():
            raise InputError(
                f"{self.model}: expected PaliGemma's sentencepiece model; put "
                "paligemma_tokenizer.model there (gs://big_vision/paligemma_tokenizer.model)"
            )
        return sentencepiece.SentencePieceProcessor(model_file=str(self.model))

    def encode(self, prompt: str) -> list[int]:
        """[bos] + pieces + newline piece, as openpi's PaligemmaTokenizer."""
        pieces = self._processor
        # The newline is encoded by itself: joined to the last word it could merge into one piece.
        return [pieces.bos_id(), *pieces.encode(clean(prompt)), *pieces.encode("\n")]


def clean(prompt: str) -> str:
    """Strips, and turns underscores and newlines into spaces (openpi `tokenizer.py`)."""
    return prompt.strip().replace("_", " ").replace("\n", " ")


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
