"""Prompts to ids: bytes by hand, sentencepiece with a model trained here."""

from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from pieces import train_pieces

from pi0_jax.data.tokenizer import (
    ByteTokenizer,
    PaligemmaTokenizer,
    clean,
    longest_state,
    open_tokenizer,
    pad_prompt,
    state_bins,
    with_state,
)
from pi0_jax.errors import InputError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_pieces(tmp_path_factory.mktemp("pieces"))


def test_cleaning() -> None:
    assert clean("  put_the bowl\non the plate \n") == "put the bowl on the plate"


def test_bytes() -> None:
    # bos 1, then every byte plus 2, then the newline (10 + 2).
    assert ByteTokenizer().encode("a_b ") == [1, 99, 34, 100, 12]


def test_sentencepiece_gets_bos_pieces_and_a_newline(model: Path) -> None:
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
    ids = PaligemmaTokenizer(model, 60).encode(" lift_it")
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
    ids = PaligemmaTokenizer(model, 60).encode("lift it", [3, 7])
    assert ids == [2, *pieces.encode(text)]


def test_a_policys_tokenizer_has_no_id_past_its_vocabulary(model: Path, tmp_path: Path) -> None:
    assert isinstance(open_tokenizer("bytes", tmp_path, 258), ByteTokenizer)
    with pytest.raises(InputError, match=r"ids up to 257, the network 257 rows; .* at least 258"):
        open_tokenizer("bytes", tmp_path, 257)
    tokenizer = open_tokenizer("paligemma", model, 10)
    with pytest.raises(InputError, match=r"pieces, the network 10 rows"):
        tokenizer.encode("lift")
    with pytest.raises(InputError, match="'bytes' or 'paligemma', got 'words'"):
        open_tokenizer("words", model, 300)


def test_the_model_is_read_at_the_first_prompt(tmp_path: Path) -> None:
    tokenizer = open_tokenizer("paligemma", tmp_path / "paligemma_tokenizer.model", 40)
    with pytest.raises(InputError, match=r"take paligemma_tokenizer\.model from gs://big_vision"):
        tokenizer.encode("lift")


def test_padding() -> None:
    ids, mask = pad_prompt([5, 6], 4)
    assert ids.tolist() == [5, 6, 0, 0] and mask.tolist() == [True, True, False, False]
    assert pad_prompt([1, 2], 2)[1].all()


def test_a_prompt_is_never_cut() -> None:
    with pytest.raises(InputError, match="3 tokens does not fit the model's 2"):
        pad_prompt([1, 2, 3], 2)
