"""Checkpoints: what was saved comes back, and nothing half-written is taken for whole."""

import shutil

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

from pi0_jax.errors import InputError
from pi0_jax.training import checkpoint
from pi0_jax.training.step import init_state

HOST = {"phase": "rl", "iteration": 3, "sampler": {"drawn": 5}}


def state(width: int = 3, optimizer=None, seed: int = 0):
    """A state with several kinds of leaves; adam's is a nest of tuples."""
    values = jax.random.normal(jax.random.key(seed), (width,))
    params = {"head": {"w": values, "b": jnp.ones(2, jnp.bfloat16)}, "tower": jnp.ones((2, width))}
    return init_state(params, optimizer or optax.adam(0.1), (("tower", 0.0),))


def test_round_trip(tmp_path):
    saved = state(seed=1).replace(step=jnp.array(7, jnp.int32))
    checkpoint.save(tmp_path, 7, saved, HOST)
    restored = checkpoint.restore(tmp_path, state())
    chex.assert_trees_all_equal_structs(restored, saved)
    chex.assert_trees_all_equal_dtypes(restored, saved)
    chex.assert_trees_all_equal(restored, saved)
    assert checkpoint.latest(tmp_path) == HOST


def test_what_was_bound_to_no_device_is_not_bound_when_it_comes_back(tmp_path):
    """For jit a bound array is another program: a resumed run would compile its update again."""
    fresh = state()
    bound = jax.device_put(fresh, jax.devices()[0])
    checkpoint.save(tmp_path, 0, fresh, HOST)
    for like in (fresh, bound):
        restored = checkpoint.restore(tmp_path, like)
        for leaf, place in zip(*map(jax.tree.leaves, (restored, like)), strict=True):
            assert leaf.committed == place.committed == (like is bound)


def test_there_must_be_room_for_the_old_one_and_the_new_one(tmp_path, monkeypatch):
    """A state of 80 bytes: two of them are 160."""
    free = shutil.disk_usage(tmp_path)
    checkpoint.check_room(tmp_path / "not" / "there", state())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free._replace(free=100))
    with pytest.raises(InputError, match="GB of free disk for 2 checkpoints of"):
        checkpoint.check_room(tmp_path / "not" / "there", state())
    (tmp_path / "9").mkdir()
    (tmp_path / "9" / "leaf").write_bytes(bytes(150))  # an old one that will go
    checkpoint.check_room(tmp_path, state())


def test_an_empty_folder(tmp_path):
    assert checkpoint.latest(tmp_path / "nowhere") is None
    assert checkpoint.steps(tmp_path) == []
    with pytest.raises(InputError, match="expected a checkpoint, found none"):
        checkpoint.restore(tmp_path, state())


def test_the_newest_counts_and_the_older_go(tmp_path):
    for step in (9, 10, 100):
        checkpoint.save(tmp_path, step, state(seed=step), {"at": step})
    assert [path.name for path in tmp_path.iterdir()] == ["100"]
    assert checkpoint.latest(tmp_path) == {"at": 100}
    chex.assert_trees_all_equal(checkpoint.restore(tmp_path, state()), state(seed=100))


def test_one_older_may_be_kept(tmp_path):
    for step in (9, 10, 100):
        checkpoint.save(tmp_path, step, state(seed=step), {"at": step}, keep=10)
    assert checkpoint.steps(tmp_path) == [10, 100]
    assert checkpoint.latest(tmp_path) == {"at": 100}
    chex.assert_trees_all_equal(checkpoint.restore(tmp_path, state()), state(seed=100))
    chex.assert_trees_all_equal(checkpoint.restore(tmp_path, state(), 10), state(seed=10))
    with pytest.raises(InputError, match=r"expected the checkpoint 9, found \[10, 100\]"):
        checkpoint.restore(tmp_path, state(), 9)


def test_a_half_written_checkpoint_is_ignored(tmp_path):
    checkpoint.save(tmp_path, 5, state(seed=5), {"at": 5})
    half = tmp_path / ".8.pi0_jax-partial"
    half.mkdir()
    (half / "host.json").write_text('{"at": ')
    assert checkpoint.steps(tmp_path) == [5]
    assert checkpoint.latest(tmp_path) == {"at": 5}
    checkpoint.save(tmp_path, 8, state(seed=8), {"at": 8})
    assert checkpoint.latest(tmp_path) == {"at": 8}
    assert not half.exists()


def test_a_save_that_fails_leaves_the_old_one(tmp_path):
    checkpoint.save(tmp_path, 5, state(seed=5), {"at": 5})
    with pytest.raises(TypeError):  # after the arrays, before the end
        checkpoint.save(tmp_path, 8, state(seed=8), {"at": object()})
    assert checkpoint.latest(tmp_path) == {"at": 5}
    chex.assert_trees_all_equal(checkpoint.restore(tmp_path, state()), state(seed=5))


def test_saving_a_step_again_replaces_it(tmp_path):
    checkpoint.save(tmp_path, 5, state(seed=1), {"at": 1})
    checkpoint.save(tmp_path, 5, state(seed=2), {"at": 2})
    assert checkpoint.latest(tmp_path) == {"at": 2}
    chex.assert_trees_all_equal(checkpoint.restore(tmp_path, state()), state(seed=2))


@pytest.mark.parametrize("other", ["width", "optimizer"])
def test_another_model_is_refused(tmp_path, other):
    checkpoint.save(tmp_path, 5, state(), HOST)
    like = state(width=4) if other == "width" else state(optimizer=optax.sgd(0.1))
    with pytest.raises(InputError, match="5: belongs to another model or optimizer"):
        checkpoint.restore(tmp_path, like)
