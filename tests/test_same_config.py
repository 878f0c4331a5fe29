"""What may change when a run goes on, and what may not."""

import pytest

from pi0_jax.apps.settings import TrainSettings
from pi0_jax.plain_values import defaults, dotted_values
from pi0_jax.run.same_config import FREE, changes

STORED = {"seed": 0, "pool": {"workers": 2}, "rl": {"optimizer": {"learning_rate": 1.0}}}


def test_what_results_depend_on_must_be_the_same():
    now = {"seed": 1, "pool": {"workers": 16}, "rl": {"optimizer": {"learning_rate": 0.5}}}
    refused, allowed = changes(STORED, now, {})
    assert refused == {"seed": "0 -> 1", "rl.optimizer.learning_rate": "1.0 -> 0.5"}
    assert allowed == {"pool.workers": "2 -> 16"}
    refused, allowed = changes(STORED, now, {}, ("rl.optimizer.learning_rate",))
    assert list(refused) == ["seed"]
    assert list(allowed) == ["pool.workers", "rl.optimizer.learning_rate"]


def test_a_key_that_the_run_did_not_know_takes_its_default():
    now = STORED | {"new": {"key": 3}}
    assert changes(STORED, now, {"new": {"key": 3}}) == ({}, {})
    assert changes(STORED, now, {"new": {"key": 4}})[0] == {"new.key": "4 -> 3"}
    assert changes(STORED, now, {})[0] == {"new.key": "None -> 3"}
    # One that is gone may have meant something.
    assert changes(now, STORED, {"new": {"key": 3}})[0] == {"new.key": "3 -> None"}


@pytest.mark.parametrize(
    ("path", "digest"),
    [
        ("checkpoint", "checkpoint_digest"),
        ("reference", "reference_digest"),
        ("demonstrations.lerobot", "demonstrations_digest"),
        ("init.checkpoint", "init_digest"),
    ],
)
def test_the_same_content_may_lie_elsewhere(path, digest):
    def values(where, what):
        section, _, key = path.rpartition(".")
        return ({section: {key: where}} if section else {key: where}) | what

    before = values("/a", {digest: "12"})
    assert changes(before, values("/b", {digest: "12"}), {}) == ({}, {path: "'/a' -> '/b'"})
    assert changes(before, values("/a", {digest: "34"}), {})[0] == {digest: "'12' -> '34'"}
    assert set(changes(before, values("/b", {digest: "34"}), {})[0]) == {path, digest}
    # A run of an earlier version has no digest: the path decides.
    assert changes(values("/a", {}), before, {}) == ({}, {})
    assert set(changes(values("/b", {}), before, {})[0]) == {path}


def test_every_free_key_is_one():
    known = dotted_values(defaults(TrainSettings))
    assert set(FREE) - {"eval.videos"} <= known.keys() | {"eval.videos"}
    assert {key for key in FREE if key.startswith("hardware")} == {
        key for key in known if key.startswith("hardware")
    } - {"hardware.frozen_dtype"}
