"""Prompts to ids: bytes by hand, sentencepiece with a model trained here."""

from pathlib import Path

import numpy as np
import pytest
import sentencepiece

from pi0_jax.data.tokenizer import (
    ByteTokenizer,
    PaligemmaTokenizer,
    clean,
    longest_state,
    pad_prompt,
    state_bins,
    with_state,
)
from pi0_jax.errors import InputError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentencepiece model of a few pieces, with PaliGemma's special ids."""
    folder = tmp_path_factory.mktemp("pieces")
    text = folder / "text.txt"
    text.write_text("pick up the red cube\nput the bowl on the plate\nlift it\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "model"),
        vocab_size=60,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        byte_fallback=False,
        user_defined_symbols=["\n"],
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return folder / "model.model"


def test_cleaning() -> None:
    assert clean("  put_the bowl\non the plate \n") == "put the bowl on the plate"


def test_bytes() -> None:
    # bos 1, then every byte plus 2, then the newline (10 + 2).
    assert ByteTokenizer().encode("a_b ") == [1, 99, 34, 100, 12]


def test_sentencepiece_gets_bos_pieces_and_a_newline(model: Path) -> None:
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
    ids = PaligemmaTokenizer(model).encode(" lift_it")
    assert ids == [2, *pieces.encode("lift it"), *pieces.encode("\n")]
    assert ids[0] == pieces.bos_id() and pieces.decode(ids[1:]).strip() == "lift it"


def test_a_state_is_the_numbers_of_its_bins() -> None:
    # 256 bins of width 1/128: 0 begins bin 128, and 1 is past the last edge. Below -1 is bin -1.
    state = np.array([-1.0, -0.9921875, 0.0, -1e-9, 0.999, 1.0, 7.0, -1.001])
    assert state_bins(state) == [0, 1, 128, 127, 255, 255, 255, -1]


def test_the_prompt_of_pi05() -> None:
    text = with_state(" lift_it\n", [12, -1, 255])
    assert text == "Task: lift it, State: 12 -1 255;\nAction: "
    assert with_state("", longest_state(2)) == "Task: , State: 255 255;\nAction: "


def test_a_state_goes_into_one_text_without_a_last_newline(model: Path) -> None:
    text = "Task: lift it, State: 3 7;\nAction: "
    assert ByteTokenizer().encode("lift it", [3, 7]) == [1, *(byte + 2 for byte in text.encode())]
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
    ids = PaligemmaTokenizer(model).encode("lift it", [3, 7])
    assert ids == [2, *pieces.encode(text)]


def test_a_missing_model_says_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"put paligemma_tokenizer\.model there"):
        PaligemmaTokenizer(tmp_path / "paligemma_tokenizer.model").encode("lift")


def test_padding() -> None:
    ids, mask = pad_prompt([5, 6], 4)
    assert ids.tolist() == [5, 6, 0, 0] and mask.tolist() == [True, True, False, False]
    assert pad_prompt([1, 2], 2)[1].all()


def test_a_prompt_is_never_cut() -> None:
    with pytest.raises(InputError, match="3 tokens does not fit the model's 2"):
        pad_prompt([1, 2, 3], 2)
