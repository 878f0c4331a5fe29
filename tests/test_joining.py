"""Which process this is, and how one ends when another has; the whole of it is in test_talk."""

import json
import threading

import pytest
from test_talk import Store

from pi0_jax.errors import InputError
from pi0_jax.hosts import joining, talk
from pi0_jax.hosts.talk import Group, HostEndedError


@pytest.mark.parametrize(
    ("host", "coordinator", "message"),
    [
        ("2/2", "a:1", r"--host: expected INDEX/COUNT such as 0/2 and 1/2, or auto, got '2/2'"),
        ("first", "a:1", r"got 'first'"),
        ("", "a:1", r"got ''"),
        ("0/2", "", r"--coordinator: expected ADDRESS:PORT of host 0, such as .*, got ''"),
        ("0/2", "10.0.0.1", r"got '10.0.0.1'"),
    ],
)
def test_a_wrong_place_is_told(host, coordinator, message):
    with pytest.raises(InputError, match=message), joining.joined(host, coordinator, lambda: None):
        pass


def test_numbers_of_a_host():
    assert joining._numbers("1/16", "node-7:1234") == (1, 16)


def test_one_process_joins_nobody():
    with joining.joined("", "", lambda: None):
        assert talk.count() == 1


@pytest.fixture
def store(monkeypatch) -> Store:
    """That of host 0 of two."""
    found = Store()
    group = Group(0, 2, found)
    for module in (talk, joining):
        monkeypatch.setattr(module, "group", group)
    return found


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyboardInterrupt(), [0, 130, "it was interrupted"]),
        (InputError("no such key"), [0, 2, "no such key"]),
        (OSError(28, "No space left"), [0, 1, "[Errno 28] No space left"]),
        (HostEndedError(3, 130, "it was interrupted"), [3, 130, "it was interrupted"]),
    ],
)
def test_why_a_host_ends_is_told_to_the_others(store, error, told):
    joining._tell_ended(error)
    assert json.loads(store.told["pi0_jax/ended/0"]) == told


def test_the_end_of_another_host_is_the_cause_of_this_one(store):
    mine = KeyboardInterrupt()
    assert joining._cause(mine) is mine
    store.told["pi0_jax/ended/1"] = json.dumps([1, 1, "a full disk"]).encode()
    assert str(joining._cause(mine)) == "host 1 has ended: a full disk"


def test_the_main_thread_is_stopped_once_another_host_has_ended(store, monkeypatch):
    monkeypatch.setattr(joining, "_LOOK_S", 0.01)
    store.told["pi0_jax/ended/1"] = json.dumps([1, 130, "it was interrupted"]).encode()
    done, calls = threading.Event(), []

    def stop() -> None:
        calls.append("stop")
        done.set()

    joining._watch(stop, done, lambda: None)
    assert calls == ["stop"]
    assert talk.group.ended is not None
    assert talk.group.ended.code == 130


def test_a_sudden_end_leaves_a_line(capfd):
    with joining._last_words():
        pass
    assert capfd.readouterr().err == ""
    with joining._last_words() as unsaid:
        # As when the process is killed: the pipe is closed, and nothing was written to it.
        child = unsaid.__closure__[0].cell_contents
        child.stdin.close()
        assert child.wait(10) == 0
        child.stdin = None
    assert "error: host 0 of 1 ended without a word: it was killed" in capfd.readouterr().err
