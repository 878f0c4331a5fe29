"""Sentencepiece models for tests: a tiny one that is trained, and one written piece by piece."""

import struct
from collections.abc import Mapping
from pathlib import Path

import sentencepiece


def train_pieces(folder: Path, **settings: object) -> Path:
    """Trains a model of some 30 pieces with PaliGemma's special ids; the file."""
    text = folder / "text.txt"
    text.write_text("pick up the red cube\nput the bowl on the plate\nlift it\n" * 20)
    plain: dict[str, object] = {
        "input": str(text),
        "model_prefix": str(folder / "model"),
        "vocab_size": 60,
        "pad_id": 0,
        "eos_id": 1,
        "bos_id": 2,
        "unk_id": 3,
        "user_defined_symbols": ["\n"],
        "hard_vocab_limit": False,
        "minloglevel": 2,
    }
    sentencepiece.SentencePieceTrainer.train(**plain | settings)
    return folder / "model.model"


def write_pieces(path: Path, count: int, named: Mapping[int, str]) -> None:
    """Writes a model of `count` pieces; all but the named ones are <unusedN>.

    A model file is a protocol buffer (sentencepiece `sentencepiece_model.proto`): field 1 is a
    piece with its text, score and type, 2 the ids of the trainer, 3 the normaliser.
    """
    special = {0: ("<pad>", 3), 1: ("<eos>", 3), 2: ("<bos>", 3), 3: ("<unk>", 2)}
    pieces = []
    for i in range(count):
        # Types: 1 normal, 2 unknown, 3 control. With equal scores the fewest pieces win.
        text, kind = special[i] if i in special else (named.get(i, f"<unused{i}>"), 1)
        score = b"\x15" + struct.pack("<f", -1.0)
        pieces.append(_field(1, _field(1, text.encode()) + score + _number(3, kind)))
    trainer = _number(40, 3) + _number(41, 2) + _number(42, 1) + _number(43, 0)
    for field, (text, _) in zip((48, 47, 46, 45), special.values(), strict=True):
        trainer += _field(field, text.encode())
    # No space in front of a text, no space removed.
    normaliser = _field(1, b"identity") + _number(3, 0) + _number(4, 0)
    path.write_bytes(b"".join(pieces) + _field(2, trainer) + _field(3, normaliser))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    """Seven bits per byte, the lowest first; the high bit says that more follow."""
    head, rest = value & 127, value >> 7
    return bytes([head | 128]) + _varint(rest) if rest else bytes([head])
