"""Episodes of several hosts; two real ones in test_talk."""

import dataclasses

import numpy as np
from tiny import episode

from pi0_jax.hosts import talk
from pi0_jax.io.episodes import episodes_from_bytes, episodes_to_bytes
from pi0_jax.io.shared_episodes import of_all_hosts, of_first_host


def test_one_host_has_what_it_made():
    made = [episode(3, [0]), episode(2, [])]
    assert [a is b for a, b in zip(of_all_hosts(made), made, strict=True)] == [True, True]
    assert of_first_host(lambda: made) == made


def test_episodes_travel_with_every_bit():
    chain = np.arange(6, dtype=np.float32).reshape(1, 3, 2)
    sent = [
        episode(3, [0, 2], seed=1, chain=chain, chain_log_prob=-chain),
        dataclasses.replace(episode(0, [], seed=2), error="worker 7 ended"),
    ]
    for a, b in zip(episodes_from_bytes(episodes_to_bytes(sent)), sent, strict=True):
        for field in dataclasses.fields(a):
            np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name))
    assert episodes_from_bytes(episodes_to_bytes([])) == []


def test_groups_of_two_hosts_come_in_turn(monkeypatch):
    hosts = [[episode(1, [0], seed=s) for s in seeds] for seeds in ((1, 1, 3, 3), (2, 2))]
    monkeypatch.setattr(talk, "count", lambda: 2)
    monkeypatch.setattr(talk, "gather_bytes", lambda own: [episodes_to_bytes(h) for h in hosts])
    assert [one.seed for one in of_all_hosts(hosts[0], 2)] == [1, 1, 2, 2, 3, 3]
