"""Episodes on disk: whole or refused, and never unpickled."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import episode

from pi0_jax.episode import Episode
from pi0_jax.errors import InputError
from pi0_jax.io.episodes import FORMAT_VERSION, load_episodes, save_episodes


def assert_same(a: Episode, b: Episode) -> None:
    for field in dataclasses.fields(Episode):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, np.ndarray):
            assert x.dtype == y.dtype, field.name
            np.testing.assert_array_equal(x, y, field.name)
        else:
            assert (x, type(x)) == (y, type(y)), field.name


ENTRY = st.tuples(
    st.integers(1, 9),  # steps
    st.integers(1, 4),  # steps from look to look
    st.booleans(),
    st.one_of(st.none(), st.text(st.characters(exclude_characters="\0"), min_size=1)),
    st.integers(0, 2**40),
)


@settings(max_examples=25)
@given(st.lists(ENTRY, max_size=4))
def test_what_is_saved_is_loaded(tmp_path_factory, entries):
    path = tmp_path_factory.mktemp("episodes") / "deep" / "file.npz"
    episodes = [
        episode(steps, list(range(0, steps, every)), seed, success=success, error=error)
        for steps, every, success, error, seed in entries
    ]
    save_episodes(path, episodes)
    loaded = load_episodes(path)
    assert len(loaded) == len(episodes)
    for a, b in zip(episodes, loaded, strict=True):
        assert_same(a, b)
    assert [p.name for p in path.parent.iterdir()] == ["file.npz"]


def test_an_episode_that_failed_before_its_first_step(tmp_path):
    """As a rollout records it: nothing was executed, so no look counts."""
    lost = dataclasses.replace(episode(0, [], error="the method fell off"), success=False)
    save_episodes(tmp_path / "a.npz", [lost, episode(3, [0, 2])])
    loaded = load_episodes(tmp_path / "a.npz")
    assert_same(lost, loaded[0])
    assert (len(loaded[0]), len(loaded[1])) == (0, 3)


def test_an_episode_that_never_began_beside_another(tmp_path):
    """Its simulator gave no observation at all, so even the size of its images is not known."""
    nothing = dataclasses.replace(episode(0, [], error="no display"), images=np.zeros(0, np.uint8))
    save_episodes(tmp_path / "a.npz", [nothing, episode(3, [0, 2])])
    lost, whole = load_episodes(tmp_path / "a.npz")
    assert (lost.error, len(lost.images), len(lost)) == ("no display", 0, 0)
    assert_same(whole, episode(3, [0, 2]))


def with_chains(done: Episode) -> Episode:
    """Chains of two flow steps, and their log densities, for every policy call."""
    calls, rng = int(done.chunk_start.sum()), np.random.default_rng(done.seed)
    chain = rng.standard_normal((calls, 3, 4, 8), np.float32)
    log_prob = rng.standard_normal((calls, 2, 4, 7), np.float32)
    return dataclasses.replace(done, chain=chain, chain_log_prob=log_prob)


def test_chains_are_kept_beside_episodes_without_any(tmp_path):
    episodes = [
        episode(3, [0], seed=1),
        with_chains(episode(5, [0, 3], seed=2)),
        episode(0, [], error="no step was executed"),
        with_chains(episode(2, [0], seed=3)),
    ]
    save_episodes(tmp_path / "a.npz", episodes)
    for a, b in zip(episodes, load_episodes(tmp_path / "a.npz"), strict=True):
        assert_same(a, b)


def test_a_file_of_format_2_is_read(tmp_path):
    path = tmp_path / "a.npz"
    save_episodes(path, [episode(3, [0])])
    with np.load(path) as file:
        arrays = {name: file[name] for name in file if "chain_" not in name and name != "chain"}
        arrays |= {name: file[name] for name in ("chunk_start", "chunk_start_length")}
    np.savez(path, **arrays | {"format_version": np.array(2)})
    (loaded,) = load_episodes(path)
    assert_same(loaded, episode(3, [0]))


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    save_episodes(path, [episode(5, [0, 3])])
    whole = path.read_bytes()
    for size in (0, 1, 3, 4, 30, len(whole) // 2, len(whole) - 23, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"a\.npz: expected an episode file"):
            load_episodes(path)


@settings(max_examples=60)
@given(st.integers(0, 10**9), st.integers(0, 7))
def test_a_flipped_bit_is_refused(tmp_path_factory, where, bit):
    path = tmp_path_factory.mktemp("episodes") / "a.npz"
    saved = episode(5, [0, 3])
    save_episodes(path, [saved])
    content = bytearray(path.read_bytes())
    content[where % len(content)] ^= 1 << bit
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match="expected an episode file"):
        load_episodes(path)


def test_a_file_of_before_there_were_digests(tmp_path):
    """Such an archive has no comment: it ends with the 22 bytes that end every one."""
    path = tmp_path / "a.npz"
    saved = episode(5, [0, 3])
    save_episodes(path, [saved])
    content = path.read_bytes()
    assert content[-22:-8] == b"pi0_jax crc32 "
    path.write_bytes(content[:-24] + b"\0\0")
    assert_same(load_episodes(path)[0], saved)


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "one array", "other archive"])
def test_other_files_are_refused(tmp_path, kind):
    path = tmp_path / "a.npz"
    if kind == "folder":
        path.mkdir()
    if kind == "text":
        path.write_text("episodes\n")
    if kind == "one array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    if kind == "other archive":
        np.savez(path, format_version=np.array(FORMAT_VERSION))
    with pytest.raises(InputError, match=r"a\.npz: expected an episode file"):
        load_episodes(path)


def test_another_version_is_named(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, format_version=np.array(7))
    with pytest.raises(InputError, match="expected episode format 3, got 7"):
        load_episodes(path)


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.write_text, (self.path, "boo"))


def test_nothing_is_unpickled(tmp_path):
    path, proof = tmp_path / "a.npz", tmp_path / "proof"
    save_episodes(path, [episode(3, [0])])
    with np.load(path) as file:
        arrays = dict(file)
    arrays["task"] = np.array([Payload(proof)], object)
    np.savez(path, **arrays)
    with pytest.raises(InputError, match="allow_pickle"):
        load_episodes(path)
    assert not proof.exists()


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    save_episodes(path, [episode(3, [0])])

    def interrupted(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_episodes(path, [episode(4, [0], seed=1)])
    assert len(load_episodes(path)[0]) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]
