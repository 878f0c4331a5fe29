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


def check_two_hosts(monkeypatch, first: dict, second: dict) -> None:
    """`check_alike` on a host that gathers itself and another."""
    said = []
    monkeypatch.setattr(talk, "gather", lambda own: said.append(own) or [own])
    check_alike(second)
    monkeypatch.setattr(talk, "gather", lambda own: [own, ("node-2", said[0][1])])
    check_alike(first)


def test_hosts_with_other_input_are_refused(monkeypatch):
    check_two_hosts(monkeypatch, {"rl": {"rows": 8}}, {"rl": {"rows": 8}})
    with pytest.raises(
        InputError, match=r"host 1 \(node-2\) has another rl\.rows than host 0: start"
    ):
        check_two_hosts(monkeypatch, {"rl": {"rows": 8}}, {"rl": {"rows": 4}})


def test_equal_content_may_lie_elsewhere(monkeypatch):
    first, second = ({"init": {"checkpoint": path}, "init_digest": "ab"} for path in ("a", "b"))
    check_two_hosts(monkeypatch, first, second)
    with pytest.raises(InputError, match="another init_digest than host 0"):
        check_two_hosts(monkeypatch, first, second | {"init_digest": "cd"})
    for values in (first, second):
        del values["init_digest"]
    with pytest.raises(InputError, match=r"another init\.checkpoint than host 0"):
        check_two_hosts(monkeypatch, first, second)
