"""The run folder on several hosts."""

import pytest

from pi0_jax.errors import InputError
from pi0_jax.hosts import talk
from pi0_jax.run.folder import RunFolder
from pi0_jax.run.followed import FollowedRun, check_alike, open_run
from pi0_jax.run.success import Row


def test_the_first_host_has_the_folder(tmp_path):
    run = open_run(tmp_path / "run", {"seed": 1}, resume=False)
    assert type(run) is RunFolder
    assert (tmp_path / "run/config.json").exists()


def test_another_host_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(talk, "leads", lambda: False)
    run = open_run(tmp_path / "run", {"seed": 1}, resume=False)
    assert isinstance(run, FollowedRun)
    run.set_protocol({"suite": "scripted"})
    run.put_rows([Row("rl", "ript", "scripted", 1.0, 1, 2)])
    run.log(1, "rl", "ript", loss=0.5)
    run.rewind("rl", "ript", 1)
    run.message("hello")
    with run.progress("rollouts", 2) as progress:
        progress.update(1)
    assert run.episodes("ript/001") == tmp_path / "run/episodes/ript/001.npz"
    assert run.protocol == {"suite": "scripted"}
    assert not (tmp_path / "run").exists()
    assert capsys.readouterr().err == ""


def test_hosts_with_other_input_are_refused(monkeypatch):
    def other(own):
        return [own, ("node-2", own[1] | {"rows": "other"})]

    check_alike({"rows": 8})
    monkeypatch.setattr(talk, "gather", other)
    with pytest.raises(InputError, match=r"host 1 \(node-2\) has another rows than host 0: start"):
        check_alike({"rows": 8})
