"""How bad input must end, and that the cases of `make torture` are what they say."""

import sys
import time
from pathlib import Path

import pytest

from pi0_jax import testing
from pi0_jax.errors import InputError
from pi0_jax.io.digests import DIGESTS
from pi0_jax.policy.folder import load_policy, save_policy

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))
from torture import bad_files, bad_values, refusals
from torture.refusals import fault_of, refused


def raises(error: BaseException):
    """A call that raises."""

    def call() -> None:
        raise error

    return call


def says(text: str, code: int):
    """A command that writes to standard error and returns its exit code."""

    def call() -> int:
        sys.stderr.write(text)
        return code

    return call


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (raises(InputError("x: expected y")), ""),
        (raises(FileNotFoundError(2, "No such file", "x")), ""),
        (says("error: x\n", 2), ""),
        (says("error: x\n", 1), ""),
        (raises(InputError("x\ny")), r"expected one line"),
        (raises(ValueError("x")), "ValueError: x"),
        (raises(SystemExit(0)), "SystemExit: 0"),
        (says("error: x\n", 0), "accepted"),
        (says("", 2), "expected one line, got ''"),
        (says("error: x\nerror: y\n", 2), "expected one line"),
        (says("warning: z\nerror: x\n", 2), "expected one line"),
        (lambda: None, "accepted"),
    ],
)
def test_one_line_and_no_traceback(call, fault):
    assert fault_of(call).startswith(fault)
    assert bool(fault_of(call)) == bool(fault)


def test_what_waits_is_found(monkeypatch):
    monkeypatch.setattr(refusals, "_SECONDS", 1)
    assert fault_of(lambda: time.sleep(30)) == "_HangsError: no answer within 1 s"


def test_each_damage_is_done_and_undone(tmp_path):
    file = tmp_path / "config.json"
    file.write_text('{"a": 1}')
    seen = []

    def read(path: Path) -> None:
        seen.append(file.lstat() if file.is_symlink() or file.exists() else None)
        assert (
            file.is_symlink()
            or not file.is_file()
            or file.stat().st_size > 10**9
            or (file.read_bytes() != b'{"a": 1}')
        )
        raise InputError("x")

    thing = bad_files.Thing("a thing", tmp_path, ("*.json",), read)
    row = refused("damage", bad_files.cases(thing))
    assert (row.cases, row.wrong) == (len(bad_files.DAMAGES), [])
    assert len(seen) == row.cases
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert file.read_text() == '{"a": 1}'


def test_a_policy_folder_with_any_damage_is_refused(tmp_path):
    save_policy(tmp_path / "new", testing.tiny_policy(), {"made_by": "a test"})
    files = ("params/manifest.ocdbt", DIGESTS)
    old = {DIGESTS: bad_files.ABSENT}
    found = bad_files.cases(bad_files.Thing("policy", tmp_path / "new", files, load_policy, old))
    row = refused("policy folders", found)
    assert row.wrong == []
    assert row.cases == len(files) * len(bad_files.DAMAGES) - len(bad_files.ABSENT)


def test_observations():
    row = refused("observations", bad_values.observations())
    assert row.wrong == [] and row.cases > 30
