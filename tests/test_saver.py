"""Training goes on while a checkpoint is written, and nothing is lost by it."""

import errno
import threading

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

from pi0_jax.interruption import ask
from pi0_jax.training import checkpoint, saver
from pi0_jax.training.saver import Saver
from pi0_jax.training.step import init_state


def state(value: float = 1.0):
    return init_state({"w": jnp.full(3, value)}, optax.adam(0.1), ())


@pytest.fixture
def gate(monkeypatch):
    """The writer waits until this is set; it notes the steps that it has begun and ended."""
    write, opened, seen = checkpoint.write, threading.Event(), []

    def waiting(folder, step, *args):
        seen.append(f"begin {step}")
        assert opened.wait(20)
        write(folder, step, *args)
        seen.append(f"end {step}")

    monkeypatch.setattr(checkpoint, "write", waiting)
    opened.seen = seen
    return opened


def test_training_goes_on_while_it_is_written(tmp_path, gate):
    """The state that was saved is donated to an update before the first byte is written."""
    update = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    with Saver(tmp_path) as saving:
        saving.save(5, state(), {"at": 5})
        after = jax.block_until_ready(update(state()))
        assert checkpoint.steps(tmp_path) == []
        gate.set()
        chex.assert_trees_all_equal(saving.restore(after, 5), state())


def test_a_save_waits_for_the_one_before(tmp_path, gate):
    with Saver(tmp_path) as saving:
        saving.save(5, state(), {})
        threading.Timer(0.1, gate.set).start()
        saving.save(6, state(), {}, first=lambda: gate.seen.append("first") or {})
        assert gate.seen[:2] == ["begin 5", "end 5"]
    assert gate.seen == ["begin 5", "end 5", "first", "begin 6", "end 6"]
    assert checkpoint.steps(tmp_path) == [5, 6]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_end_of_any_kind_waits_for_the_disk(tmp_path, gate, error):
    said = []
    with pytest.raises(error), Saver(tmp_path, say=said.append) as saving:
        saving.save(5, state(), {"at": 5})
        threading.Timer(0.1, gate.set).start()
        raise error
    assert checkpoint.latest(tmp_path) == {"at": 5}
    assert said == ["waiting for the checkpoint that is being written"]


def test_a_stop_while_it_waits_comes_when_it_is_written(tmp_path, gate):
    with pytest.raises(KeyboardInterrupt), Saver(tmp_path) as saving:
        saving.save(5, state(), {"at": 5})
        threading.Timer(0.2, lambda: (ask(), gate.set())).start()
        saving.wait()
    assert checkpoint.latest(tmp_path) == {"at": 5}


def full(*args):
    raise OSError(errno.ENOSPC, "No space left on device", "runs/x/checkpoints/5")


def test_a_full_disk_is_told_by_the_next_save_or_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "write", full)
    with pytest.raises(OSError, match=r"No space left.*checkpoints/5"), Saver(tmp_path) as saving:
        saving.save(5, state(), {})
    with Saver(tmp_path) as saving:
        saving.save(5, state(), {})
        with pytest.raises(OSError, match="No space left"):
            saving.save(6, state(), {})


def test_an_error_of_the_training_is_told_before_that_of_its_writer(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "write", full)
    said = []
    with pytest.raises(ValueError, match="diverged"), Saver(tmp_path, say=said.append) as saving:
        saving.save(5, state(), {})
        raise ValueError("diverged")
    assert said[-1].startswith(
        "warning: the newest checkpoint was not written: [Errno 28] No space"
    )


def test_without_memory_for_a_copy_training_waits_and_says_so(tmp_path, monkeypatch):
    """Three numbers thrice, and two counts: 44 bytes."""
    said = []
    monkeypatch.setattr(saver, "free_memory", lambda: 43)
    monkeypatch.setattr(saver, "_on_host", lambda leaves: pytest.fail("there is no room"))
    with Saver(tmp_path, say=said.append) as saving:
        for step in (5, 6):
            saving.save(step, state(step), {})
            chex.assert_trees_all_equal(checkpoint.restore(tmp_path, state()), state(step))
    assert said == [
        "warning: checkpoints are written while training waits: a copy of 44 bytes needs more "
        "host memory than is free (43 bytes)"
    ]
