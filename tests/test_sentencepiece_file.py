"""A tokenizer file is the network's own, or one sentence says why not."""

import re
from pathlib import Path

import pytest
from pieces import train_pieces, write_pieces

from pi0_jax.data.sentencepiece_file import PALIGEMMA_PIECES, load_pieces
from pi0_jax.errors import InputError

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""How a sentencepiece model writes a space."""

# Ids in the order of the texts: "This is a test", "Task: pick up", ", State: 12", ";\nAction: ".
WORDS = {
    108: "\n",
    1596: "This", 603: f"{SPACE}is", 476: f"{SPACE}a", 2121: f"{SPACE}test",
    7071: "Task", 235292: ":", 4788: f"{SPACE}pick", 908: f"{SPACE}up",
    235269: ",", 3040: f"{SPACE}State", 235248: SPACE, 235274: "1", 235284: "2",
    235289: ";", 4022: "Action",
    256_000: "<loc0000>", 257_151: "<seg127>",
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_pieces(tmp_path_factory.mktemp("pieces"))


@pytest.fixture(scope="module")
def paligemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many pieces as PaliGemma's, with its ids for the texts that are checked."""
    path = tmp_path_factory.mktemp("paligemma") / "paligemma_tokenizer.model"
    write_pieces(path, PALIGEMMA_PIECES, WORDS)
    return path


def test_a_small_model_fits_a_vocabulary_that_is_as_large(model: Path) -> None:
    count = load_pieces(model, 60).vocab_size()
    assert 20 < count < 60
    assert load_pieces(model, count).bos_id() == 2
    with pytest.raises(InputError, match=f"has {count} pieces, the network {count - 1} rows"):
        load_pieces(model, count - 1)


def test_paligemmas_ids_are_accepted(paligemma: Path) -> None:
    pieces = load_pieces(paligemma, PALIGEMMA_PIECES)
    assert pieces.encode("Task: pick up, State: 12;\nAction: ") == [
        7071, 235292, 4788, 908, 235269, 3040, 235292, 235248, 235274, 235284, 235289, 108, 4022,
        235292, 235248,
    ]  # fmt: skip
    # PaliGemma's own checkpoint has 64 more rows, which no id reads.
    assert load_pieces(paligemma, 257_216).vocab_size() == 257_152


def test_gemmas_tokenizer_is_not_paligemmas(tmp_path: Path) -> None:
    write_pieces(tmp_path / "m", 256_000, {i: word for i, word in WORDS.items() if i < 256_000})
    with pytest.raises(InputError, match=r"PaliGemma's tokenizer of 257,152 pieces.* 256,000"):
        load_pieces(tmp_path / "m", PALIGEMMA_PIECES)


def test_as_many_pieces_with_other_ids_are_refused(tmp_path: Path) -> None:
    # " pick" and " up" changed places: most prompts would still look right.
    write_pieces(tmp_path / "m", PALIGEMMA_PIECES, WORDS | {4788: WORDS[908], 908: WORDS[4788]})
    wanted = re.escape("ids of 'Task: pick up' are [7071, 235292, 4788, 908]; this one gives")
    with pytest.raises(InputError, match=wanted):
        load_pieces(tmp_path / "m", PALIGEMMA_PIECES)
    assert load_pieces(tmp_path / "m", 300_000).vocab_size() == PALIGEMMA_PIECES


def test_a_model_without_begin_of_sequence(tmp_path: Path) -> None:
    # As T5's: its id would be -1, which reads the last row of the embedding.
    model = train_pieces(tmp_path, bos_id=-1)
    with pytest.raises(InputError, match="has no begin-of-sequence piece"):
        load_pieces(model, 60)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:89\nsize 4264023\n", "git-lfs"),
        (b"", "but it is empty"),
        (b"{}", r"but 2 bytes that are none, or are cut off; take .* from gs://"),
        (b"PK\x03\x04" + bytes(99), "103 bytes that are none"),
    ],
)
def test_what_is_no_model(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_pieces(tmp_path / "m", 60)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_cut_file(model: Path, paligemma: Path, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(model.read_bytes()[:-100])
    with pytest.raises(InputError, match="or are cut off"):
        load_pieces(tmp_path / "m", 60)
    # Cut between two pieces it parses, but has too few.
    whole = paligemma.read_bytes()
    (tmp_path / "m").write_bytes(whole[: whole.index(b"<unused257000>") - 4])
    with pytest.raises(InputError, match=r"begin-of-sequence|257,152 pieces, got"):
        load_pieces(tmp_path / "m", PALIGEMMA_PIECES)


def test_a_missing_file_and_a_folder_say_where_to_take_it(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match=r"take paligemma_tokenizer\.model from gs://"):
            load_pieces(path, 60)
