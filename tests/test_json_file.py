"""JSON files of others: one object, every name once, or one sentence that names the file."""

from pathlib import Path

import pytest

from pi0_jax.errors import InputError
from pi0_jax.json_file import read_object, read_value


def test_an_object(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": [1000000000000000000, -9223372036854775808]}')
    assert read_object(path) == {"a": [10**18, -(2**63)]}
    path.write_text('{"a": 12, "b": {"a": [1.5, null]}}')
    assert read_object(path) == {"a": 12, "b": {"a": [1.5, None]}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "a.json: expected JSON"),
        (b"", "a.json: expected JSON"),
        (b"\xff\xfe{}", "a.json: expected JSON: 'utf-8' codec"),
        (b"[1]", r"a.json: expected a JSON object {...}, got \[1\]"),
        (b"null", "got None"),
        (b'{"b": {"a": 1, "a": 2}}', "'a' is there twice"),
        (b'{"a": 9223372036854775808}', "the number 9223372036854775808... is too large"),
        (b'{"a": 1' + b"0" * 400 + b"}", r"the number 10000000000000000000\.\.\. is too large"),
        (b"[" * 100000, "a.json: expected JSON: nested too deeply"),
        (b"version https://git-lfs.github.com/spec/v1", "a git-lfs pointer"),
    ],
)
def test_anything_else_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_object(tmp_path / "a.json")


def test_whoever_asks_knows_what_the_file_would_have_been_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_object(tmp_path / "a.json")


def test_a_folder_of_this_name(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(InputError, match=r"a\.json: expected a file, found a folder"):
        read_object(tmp_path / "a.json")


def test_a_list_where_one_may_be(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1]")
    assert read_value(tmp_path / "a.json") == [1]
