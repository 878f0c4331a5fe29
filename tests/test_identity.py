"""Two runs that somebody mixed in one folder."""

import json
import shutil

import pytest

from pi0_jax.errors import InputError
from pi0_jax.run.folder import RunFolder
from pi0_jax.run.identity import check_own, new_identity

CONFIG = {"seed": 0}


def begun(path) -> RunFolder:
    """A run with a checkpoint."""
    run = RunFolder(path, CONFIG, resume=False)
    add_checkpoint(run, "base", "4")
    return run


def add_checkpoint(run: RunFolder, method: str, name: str) -> None:
    folder = run.checkpoints(method) / name
    folder.mkdir(parents=True)
    (folder / "host.json").write_text(json.dumps({"phase": "sft", "run": run.identity}))


def test_no_two_runs_have_one_name(tmp_path):
    first, second = begun(tmp_path / "a"), begun(tmp_path / "b")
    assert len({first.identity, second.identity, new_identity(), ""}) == 4


def test_a_run_keeps_its_name_wherever_it_lies(tmp_path):
    run = begun(tmp_path / "here")
    run.metrics.close()
    shutil.copytree(run.path, tmp_path / "there")
    for path in (run.path, tmp_path / "there"):
        assert RunFolder(path, CONFIG, resume=True).identity == run.identity


@pytest.mark.parametrize("method", ["base", "continued_sft"])
def test_a_checkpoint_of_another_run_is_refused(tmp_path, method):
    run, other = begun(tmp_path / "a"), begun(tmp_path / "b")
    add_checkpoint(other, method, "9")
    shutil.copytree(other.checkpoints(method) / "9", run.checkpoints(method) / "9")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"checkpoints/9: is a checkpoint of another run \("):
        RunFolder(run.path, CONFIG, resume=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_run_and_checkpoints_of_before_have_no_name(tmp_path):
    run = begun(tmp_path)
    check_own(tmp_path, "")
    (run.checkpoints("base") / "4/host.json").write_text('{"phase": "sft"}')
    check_own(tmp_path, run.identity)
    # What cannot be read is not for here: `training/recovery.py` sets it aside.
    (run.checkpoints("base") / "4/host.json").write_text("{")
    check_own(tmp_path, run.identity)
