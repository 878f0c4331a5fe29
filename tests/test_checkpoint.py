"""Checkpoints: what was saved comes back, and nothing half-written is taken for whole."""

import shutil

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

from pi0_jax.errors import InputError
from pi0_jax.io.orbax_tree import load_shapes
from pi0_jax.training import checkpoint
from pi0_jax.training.frozen import Frozen
from pi0_jax.training.recovery import recover
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


def test_there_must_be_room_for_those_that_are_kept_and_the_new_one(tmp_path, monkeypatch):
    """A state of 92 bytes: three of them are 276."""
    free = shutil.disk_usage(tmp_path)
    checkpoint.check_room(tmp_path / "not" / "there", state())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free._replace(free=100))
    with pytest.raises(InputError, match="276 bytes of free disk for 3 checkpoints of 92 bytes"):
        checkpoint.check_room(tmp_path / "not" / "there", state())
    (tmp_path / "9").mkdir()
    (tmp_path / "9" / "leaf").write_bytes(bytes(180))  # an old one that will go
    checkpoint.check_room(tmp_path, state())
    (tmp_path / "9").rename(tmp_path / "9.aside")  # one that stays
    with pytest.raises(InputError, match="276 bytes of free disk for 3"):
        checkpoint.check_room(tmp_path, state())


def test_an_empty_folder(tmp_path):
    assert checkpoint.latest(tmp_path / "nowhere") is None
    assert checkpoint.steps(tmp_path) == []
    with pytest.raises(InputError, match="expected a checkpoint, found none"):
        checkpoint.restore(tmp_path, state())


def test_the_newest_counts_and_the_older_go(tmp_path):
    for step in (8, 9, 10, 100):
        checkpoint.save(tmp_path, step, state(seed=step), {"at": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "100"]
    assert checkpoint.latest(tmp_path) == {"at": 100}
    chex.assert_trees_all_equal(checkpoint.restore(tmp_path, state()), state(seed=100))


def test_older_ones_may_be_kept(tmp_path):
    for step in (9, 10, 100):
        checkpoint.save(tmp_path, step, state(seed=step), {"at": step}, keep=1, also={10, 11})
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


def test_copies_that_somebody_made_are_no_checkpoints(tmp_path):
    checkpoint.save(tmp_path, 44, state(), HOST)
    for copy in ("0044", "45.bak", "45.0", "46~", "47 (copy)", "lost+found"):
        shutil.copytree(tmp_path / "44", tmp_path / copy)
    (tmp_path / ".DS_Store").write_bytes(b"")
    assert checkpoint.steps(tmp_path) == [44]
    assert [path.name for path in checkpoint.saved(tmp_path)] == ["44"]


def test_a_save_that_fails_leaves_the_old_one(tmp_path):
    checkpoint.save(tmp_path, 5, state(seed=5), {"at": 5})
    with pytest.raises(TypeError):  # after the arrays, before the end
        checkpoint.save(tmp_path, 8, state(seed=8), {"at": object()})
    assert checkpoint.latest(tmp_path) == {"at": 5}
    chex.assert_trees_all_equal(checkpoint.restore(tmp_path, state()), state(seed=5))


def test_saving_a_step_again_does_not_touch_the_first(tmp_path, monkeypatch):
    """Iterations without an update: the step is that of the iteration before."""
    names = lambda: sorted(path.name for path in tmp_path.iterdir())  # noqa: E731
    checkpoint.save(tmp_path, 5, state(seed=1), {"at": 1}, keep=1)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "remove", lambda path: pytest.fail("killed before"))
        with pytest.raises(pytest.fail.Exception):
            checkpoint.save(tmp_path, 5, state(seed=2), {"at": 2}, keep=1)
    assert names() == ["5", "5.1"]
    assert checkpoint.latest(tmp_path) == {"at": 2}
    for number in range(3, 13):
        checkpoint.save(tmp_path, 5, state(seed=number), {"at": number}, keep=2, also={5})
    assert names() == ["5.10", "5.11"]
    assert checkpoint.steps(tmp_path) == [5]
    assert checkpoint.latest(tmp_path) == {"at": 12}
    chex.assert_trees_all_equal(checkpoint.restore(tmp_path, state()), state(seed=12))


def flip(path, where: int) -> None:
    content = bytearray(path.read_bytes())
    content[where % len(content)] ^= 1 << where % 8
    path.write_bytes(bytes(content))


DAMAGES = {
    "empty host.json": lambda path: (path / "host.json").write_text(""),
    "no host.json": lambda path: (path / "host.json").unlink(),
    "a list in host.json": lambda path: (path / "host.json").write_text("[]"),
    "a flipped bit": lambda path: flip(next((path / "state/d").iterdir()), 99),
    "no arrays": lambda path: shutil.rmtree(path / "state"),
    "no digests and no arrays": lambda path: [
        (path / "digests.json").unlink(),
        shutil.rmtree(path / "state"),
    ],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_newest_one_that_is_damaged_is_set_aside(tmp_path, damage):
    for step in (5, 6):
        checkpoint.save(tmp_path, step, state(seed=step), {"phase": "rl", "at": step})
    said = []
    recover(tmp_path, "rl", said.append)
    assert said == []
    (tmp_path / "6.damaged").mkdir()  # an earlier one
    damage(tmp_path / "6")
    recover(tmp_path, "rl", said.append)
    (line,) = said
    assert "it is now 6.damaged.1, and training goes on from checkpoint 5" in line
    assert "\n" not in line
    assert checkpoint.latest(tmp_path)["at"] == 5
    chex.assert_trees_all_equal(checkpoint.restore(tmp_path, state()), state(seed=5))
    assert (tmp_path / "6.damaged.1").is_dir()


def test_one_under_another_name_is_set_aside(tmp_path):
    for step in (5, 6):
        checkpoint.save(tmp_path, step, state(seed=step), {"phase": "sft"})
    (tmp_path / "6").rename(tmp_path / "9")
    with pytest.raises(InputError, match=r"9: expected the state after 9 steps, got that after 6"):
        checkpoint.latest(tmp_path)
    said: list[str] = []
    recover(tmp_path, "sft", said.append)
    assert "it is now 9.damaged, and training goes on from checkpoint 5" in said[0]
    assert checkpoint.latest(tmp_path) == {"phase": "sft"}


def test_all_may_be_damaged_and_those_of_another_phase_are_not_looked_at(tmp_path):
    for step in (4, 5, 6):
        host = {"phase": "sft" if step == 4 else "rl"}
        checkpoint.save(tmp_path, step, state(), host, keep=3)
    for step in (4, 5, 6):
        flip(tmp_path / f"{step}" / "digests.json", 20)
    said = []
    recover(tmp_path, "rl", said.append)
    assert [checkpoint.steps(tmp_path), len(said)] == [[4], 2]
    recover(tmp_path, "sft", said.append)
    assert "training goes on from the beginning" in said[2]
    assert checkpoint.latest(tmp_path) is None


def test_one_of_before_there_were_digests_is_used_with_a_line(tmp_path, caplog):
    checkpoint.save(tmp_path, 5, state(), {"phase": "sft"})
    (tmp_path / "5" / "digests.json").unlink()
    recover(tmp_path, "sft", pytest.fail)
    assert "5 has no digests.json, so damage would not be noticed" in caplog.text


def frozen(value: float = 1.0) -> Frozen:
    """The tower of `state`, as a base policy has it."""
    return Frozen({"tower": jnp.full((2, 3), value)})


def test_frozen_leaves_are_left_out_and_come_from_the_base(tmp_path):
    """Head, moments and counts are stored; the tower of 24 bytes is not."""
    saved, base = state(seed=1), frozen()
    assert checkpoint.size_of(checkpoint.leaves_of(saved)) == 92
    assert checkpoint.size_of(checkpoint.leaves_of(saved, base)) == 68
    checkpoint.save(tmp_path, 7, saved, HOST, frozen=base)
    assert len(load_shapes(tmp_path / "7" / "state")) == len(jax.tree.leaves(saved)) - 1
    chex.assert_trees_all_equal(checkpoint.restore(tmp_path, state(), frozen=base), saved)
    # As a mesh or `frozen_dtype` has placed or rounded it.
    like = state()
    half = like.replace(params=like.params | {"tower": like.params["tower"].astype(jnp.bfloat16)})
    assert checkpoint.restore(tmp_path, half, frozen=base).params["tower"].dtype == jnp.bfloat16


def test_another_base_is_refused_in_one_line(tmp_path):
    checkpoint.save(tmp_path, 7, state(), HOST, frozen=frozen())
    for other in (frozen(1.5), Frozen({}), Frozen({"head/w": jnp.ones(3)})):
        with pytest.raises(InputError, match=r"7: leaves out frozen parameters \(digest \w{12}\)"):
            checkpoint.restore(tmp_path, state(), frozen=other)
    (tmp_path / "7" / "frozen.json").write_text("[]")
    with pytest.raises(InputError, match=r"frozen.json: expected a JSON object"):
        checkpoint.restore(tmp_path, state(), frozen=frozen())


def test_a_checkpoint_of_an_earlier_version_holds_all_and_is_read_as_it_is(tmp_path):
    saved = state(seed=1)
    saved = saved.replace(params=saved.params | {"tower": jnp.full((2, 3), 9.0)})
    checkpoint.save(tmp_path, 7, saved, HOST)
    chex.assert_trees_all_equal(checkpoint.restore(tmp_path, state(), frozen=frozen()), saved)


@pytest.mark.parametrize("other", ["width", "optimizer"])
def test_another_model_is_refused(tmp_path, other):
    checkpoint.save(tmp_path, 5, state(), HOST)
    like = state(width=4) if other == "width" else state(optimizer=optax.sgd(0.1))
    with pytest.raises(InputError, match="5: belongs to another model or optimizer"):
        checkpoint.restore(tmp_path, like)
