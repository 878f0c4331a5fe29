"""Episodes of an evaluation on disk: none lost, none twice, in order at the end."""

import json
import shutil

import numpy as np
import pytest
from tiny import episode

from pi0_jax.errors import InputError
from pi0_jax.io.episodes import load_episodes, save_episodes
from pi0_jax.rollout.episode_log import EpisodeLog, key

ONE, TWO = episode(2, [0], seed=1, success=True), episode(3, [0], seed=2)
BROKEN = episode(1, [0], seed=3, error="the method fell off")


@pytest.fixture
def log(tmp_path):
    return EpisodeLog(tmp_path / "episodes" / "ript_1.5.npz")


def seeds(log: EpisodeLog) -> list[int]:
    lines = log.path.with_suffix(".jsonl").read_text().splitlines()
    return [json.loads(line)["seed"] for line in lines]


def test_nothing_yet(log):
    assert log.begin() == {}
    assert seeds(log) == []


def test_every_episode_is_there_at_once(log):
    log.begin()
    for count, one in enumerate((TWO, BROKEN, ONE), start=1):
        log.add(one)
        assert len(seeds(log)) == count
    assert log.begin().keys() == {key(ONE), key(TWO)}
    assert sorted(seeds(log)) == [1, 2]  # what broke will be told of again


def test_an_episode_run_again_replaces_its_error(log):
    log.begin()
    log.add(BROKEN)
    mended = episode(1, [0], seed=3)
    log.add(mended)
    assert log.begin()[key(BROKEN)].error is None


def test_the_end_is_one_file_in_order(log):
    log.begin()
    for one in (TWO, BROKEN, ONE):
        log.add(one)
    log.finish([ONE, TWO, BROKEN])
    names = sorted(path.name for path in log.path.parent.iterdir())
    assert names == ["ript_1.5.jsonl", "ript_1.5.npz"]
    assert seeds(log) == [1, 2, 3]
    stored = load_episodes(log.path)
    np.testing.assert_array_equal(stored[1].actions, TWO.actions)
    assert stored[2].error == "the method fell off"
    assert list(log.begin()) == [key(ONE), key(TWO)]


def test_killed_between_the_file_and_its_parts(log):
    """Both are there: each episode counts once."""
    log.begin()
    log.add(ONE)
    log.finish([ONE])
    log.add(ONE)
    log.add(TWO)
    assert sorted(log.begin()) == [key(ONE), key(TWO)]


def test_a_half_written_part_is_no_episode(log):
    log.begin()
    log.add(ONE)
    parts = log.path.with_suffix(".parts")
    # What desktops and copying programs leave.
    for name in (".scripted_2.npz.partial", "._scripted_1.npz", ".DS_Store", "scripted_1.npz~"):
        (parts / name).write_bytes(b"PK")
    assert log.begin().keys() == {key(ONE)}
    (parts / "scripted_2.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"scripted_2\.npz"):
        log.begin()


@pytest.mark.parametrize("left", ["no file", "a file and all parts", "a file and no parts"])
def test_killed_in_the_end_it_is_ended_by_the_next_process(log, left):
    """All episodes were there, but not yet the one file, or not yet the end of the parts."""
    log.begin()
    for one in (TWO, ONE):
        log.add(one)
    parts = log.path.with_suffix(".parts")
    if left != "no file":
        log.finish([TWO])
        parts.mkdir()
    if left == "a file and all parts":
        log.add(TWO)
        log.add(ONE)
    log.begin()
    assert log.unfinished
    log.finish([ONE, TWO])
    assert [one.seed for one in load_episodes(log.path)] == [1, 2]
    assert not parts.exists()
    assert not log.unfinished
    written = log.path.stat().st_mtime_ns
    log.finish([])  # nothing is to be done
    assert log.path.stat().st_mtime_ns == written


def test_the_file_of_another_evaluation_is_refused(log):
    log.finish([ONE])
    other = EpisodeLog(log.path.with_name("base_1.npz"))
    shutil.copyfile(log.path, other.path)
    expected = r"of episodes/base_1, got those of episodes/ript_1\.5"
    for read in (other.begin, other.load):
        with pytest.raises(InputError, match=expected):
            read()
    # A file of an earlier version does not say.
    save_episodes(other.path, [ONE])
    assert len(other.begin()) == len(other.load()) == 1
