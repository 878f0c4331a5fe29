"""What hosts tell each other; two real ones in `talked`."""

import json
from pathlib import Path

import hosts
import numpy as np
import pytest
from hosts_worker import SEEDS
from tiny import episode

from pi0_jax.hosts import talk
from pi0_jax.hosts.talk import Group, HostEndedError


@pytest.fixture(scope="module")
def talked(tmp_path_factory) -> list[dict]:
    """What each of two hosts heard, the first one first."""
    path, address = tmp_path_factory.mktemp("talk"), hosts.free_address()
    outs = [path / f"{host}.json" for host in (0, 1)]
    worker = Path(hosts.__file__).with_name("hosts_worker.py")
    assert hosts.codes([
        hosts.start(worker, f"{host}/2", address, str(out), log=out.with_suffix(".log"))
        for host, out in enumerate(outs)
    ]) == [0, 0]  # fmt: skip
    return [json.loads(out.read_text()) for out in outs]


def test_every_host_hears_all(talked):
    for heard in talked:
        assert heard["gather"] == [{"host": 0}, {"host": 1}]
        assert heard["agree"] == [True, False]
        assert heard["bytes"] == [[100_000, 0, 0], [100_001, 1, 1]]


def test_the_first_host_makes_what_all_get(talked):
    for heard in talked:
        assert heard["first"] == "of 0"
        assert heard["tree"] == [[[0.0] * 3] * 2, "float16", [70_000], 0]
    assert [heard["made"] for heard in talked] == [["of 0"], []]


def test_what_is_made_apart_comes_in_the_order_of_the_whole(talked):
    assert [heard["share"] for heard in talked] == [[0, 2, 4], [1, 3]]
    for heard in talked:
        assert heard["in_order"] == [0, 1, 2, 3, 4]


def test_episodes_of_a_group_stay_together(talked):
    for heard in talked:
        assert heard["seeds"] == [5, 5, 6, 6, 7, 7]
        of_first = [int(episode(2, [0], seed=seed).images.sum()) for seed in SEEDS[::2]]
        assert heard["images"] == [of_first[0]] * 2 + [of_first[1]] * 2


def test_hosts_that_differ_are_refused(talked):
    for heard in talked:
        assert heard["alike"].startswith("host 1 (")
        assert "has another rows than host 0: start all with the same" in heard["alike"]


def test_a_host_that_fails_ends_the_other_one_with_its_reason(talked):
    first, second = talked
    assert first["error"] == ["HostEndedError", "host 1 has ended: the second host is broken", 2]
    assert second["error"] == ["InputError", "the second host is broken\nin two lines", None]


def test_one_process_gets_what_it_gives():
    tree = {"a": np.zeros(2)}
    assert talk.count() == 1
    assert talk.leads()
    assert talk.share(range(3)) == [0, 1, 2]
    assert talk.gather((1, 2)) == [(1, 2)]
    assert talk.first(lambda: (1, 2)) == (1, 2)
    assert talk.gather_bytes(b"x") == [b"x"]
    assert talk.first_bytes(lambda: b"x") == b"x"
    assert talk.first_tree(tree) is tree
    assert talk.agree(True)
    assert not talk.agree(False)


class Store:
    """The coordinator's, with what others have told."""

    def __init__(self, **told: bytes):
        self.told = told

    def key_value_set_bytes(self, key: str, value: bytes) -> None:
        self.told[key] = value

    def key_value_dir_get_bytes(self, folder: str) -> list[tuple[str, bytes]]:
        return [(key, value) for key, value in self.told.items() if key.startswith(folder)]

    def key_value_delete(self, key: str) -> None:
        del self.told[key]


def test_what_all_have_read_is_forgotten(monkeypatch):
    other = {f"pi0_jax/{number}/1": (1).to_bytes(8) + b"7" for number in range(3)}
    store = Store(**other)
    monkeypatch.setattr(talk, "group", Group(0, 2, store))
    assert [talk.gather(number) for number in range(3)] == [[0, 7], [1, 7], [2, 7]]
    assert [key for key in store.told if key not in other] == ["pi0_jax/2/0"]


def test_nobody_waits_for_a_host_that_has_ended(monkeypatch):
    ended = HostEndedError(1, 130, "it was interrupted")
    monkeypatch.setattr(talk, "group", Group(0, 2, Store(), ended))
    with pytest.raises(HostEndedError, match="host 1 has ended: it was interrupted"):
        talk.barrier()


@pytest.mark.parametrize(("size", "pieces"), [(5, [8]), (8, [8]), (9, [8, 8])])
def test_pieces_have_one_size(monkeypatch, size, pieces):
    monkeypatch.setattr(talk, "_PIECE", 8)
    data = bytes(range(1, size + 1))
    found = list(talk._pieces(data, size))
    assert [len(piece) for piece in found] == pieces
    assert b"".join(piece.tobytes() for piece in found)[:size] == data
    # Another host has less to tell, and takes part in as many.
    assert [piece.tolist() for piece in talk._pieces(b"", size)] == [[0] * 8] * len(pieces)
