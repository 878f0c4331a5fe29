"""Several folders as one: how often each is drawn from, and what an episode is worth."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import transforms

from pi0_jax.data.held_out import judged_steps, split
from pi0_jax.data.lerobot.folder import LeRobotFolder
from pi0_jax.data.lerobot.recording import Recording
from pi0_jax.data.mixture import Mixture
from pi0_jax.errors import InputError
from pi0_jax.robots import load_robot

PANDA = load_robot("libero_panda")


class Grey:
    """Pictures whose brightness is a number."""

    def __init__(self, value: int):
        self.value = value

    def read(self, step: int) -> np.ndarray:
        return np.full((16, 16, 3), self.value, np.uint8)


def recording(number: int, steps: int, task: str = "lift", **outcome) -> Recording:
    state, actions = np.zeros((steps, 8), np.float32), np.full((steps, 7), number, np.float32)
    return Recording((task,) * steps, state, actions, (Grey(number), Grey(number)), number,
                     **outcome)  # fmt: skip


def folder(*recordings: Recording) -> LeRobotFolder:
    return LeRobotFolder(Path("data"), PANDA, recordings, len(recordings))


LONG = folder(recording(0, 60), recording(1, 20))
SHORT = folder(recording(2, 2, "lift"), recording(3, 6, "stack"))


def shares(mixture: Mixture, draws: int = 40_000) -> list[float]:
    """How often each episode is drawn."""
    windows = mixture.windows(transforms(), 4)
    indices = windows.draw(np.random.default_rng(0), draws)
    assert indices.min() >= 0 and indices.max() < len(windows)
    owners = np.searchsorted(windows.windows.ends, indices, side="right")
    return [float(np.mean(owners == i)) for i in range(len(mixture.recordings))]


@pytest.mark.parametrize(
    ("mixture", "expected"),
    [
        (Mixture((LONG,), (1.0,)), [0.75, 0.25]),  # every step alike
        (Mixture((LONG, SHORT), (1.0, 1.0)), [0.375, 0.125, 0.125, 0.375]),
        (Mixture((LONG, SHORT), (3.0, 1.0)), [0.5625, 0.1875, 0.0625, 0.1875]),
        (Mixture((SHORT,), (1.0,), balance_tasks=True), [0.5, 0.5]),
        (Mixture((LONG, SHORT), (1.0, 1.0), balance_tasks=True), [0.375, 0.125, 0.25, 0.25]),
    ],
)
def test_how_often_each_episode_is_drawn(mixture, expected):
    np.testing.assert_allclose(shares(mixture), expected, atol=0.01)


def test_within_an_episode_every_step_alike():
    windows = Mixture((SHORT,), (1.0,)).windows(transforms(), 4)
    counts = np.bincount(windows.draw(np.random.default_rng(1), 32_000), minlength=8)
    np.testing.assert_allclose(counts / 32_000, 1 / 8, atol=0.01)
    again = windows.draw(np.random.default_rng(1), 32_000)
    np.testing.assert_array_equal(counts, np.bincount(again, minlength=8))


def test_windows_carry_what_their_episode_is_worth():
    """Mean 1 over the positive ones: 0.5 and 1.5 of advantages 0.2 and 0.6."""
    one = folder(
        recording(0, 3, advantage=-1.0), recording(1, 3, advantage=0.2),
        recording(2, 3, advantage=0.6),
    )  # fmt: skip
    mixture = Mixture((one,), (1.0,), worth="advantage")
    np.testing.assert_allclose(mixture.worths(), [0.0, 0.5, 1.5], rtol=1e-6)
    taken = mixture.windows(transforms(), 4).take(np.array([7, 0, 4]))
    np.testing.assert_allclose(taken.weight, [1.5, 0.0, 0.5], rtol=1e-6)
    assert taken.obs.images[:, 0, 0, 0, 0].tolist() == [2, 0, 1]


def test_successes_count_one_and_so_do_demonstrations():
    rollouts = folder(recording(0, 3, success=1.0), recording(1, 3, success=0.0))
    mixture = Mixture((rollouts, SHORT), (1.0, 1.0), worth="success")
    assert mixture.worths().tolist() == [1.0, 0.0, 1.0, 1.0]
    assert replace(mixture, worth="none").worths().tolist() == [1.0] * 4
    with pytest.raises(InputError, match="is 'advantage', and no folder has the column advantage"):
        replace(mixture, worth="advantage").worths()
    failures = folder(recording(0, 3, success=0.0), recording(1, 3, success=0.0))
    with pytest.raises(InputError, match="no episode is worth anything: none succeeded"):
        Mixture((failures,), (1.0,), worth="success").worths()


def test_what_is_held_out_is_of_every_folder():
    many = folder(*(recording(i, 5) for i in range(20)))
    mixture = Mixture((many, SHORT), (1.0, 1.0))
    learnt, held = split(mixture, 0.1, np.random.default_rng(0))
    assert [len(f.recordings) for f in held.folders] == [2, 1]
    assert [len(f.recordings) for f in learnt.folders] == [18, 1]
    both = {r.number for r in learnt.folders[0].recordings} | {
        r.number for r in held.folders[0].recordings
    }
    assert both == set(range(20))
    again = split(mixture, 0.1, np.random.default_rng(0))[1]
    assert [r.number for r in again.recordings] == [r.number for r in held.recordings]
    with pytest.raises(InputError, match="data: expected at least 2 episodes, one to learn from"):
        split(Mixture((folder(recording(0, 5)),), (1.0,)), 0.1, np.random.default_rng(0))


def test_judged_steps_lie_evenly_over_all_episodes():
    """Six of 12 steps: 1, 3, 5, 7 of the first, and 1, 3 of the second."""
    steps = judged_steps([recording(5, 8), recording(9, 4)], 4, 6, 16)
    assert steps.actions[:, 0, 0].tolist() == [5, 5, 5, 5, 9, 9]
    assert steps.mask.sum(1).tolist() == [4, 4, 3, 1, 3, 1]
    assert steps.observations[4].images[0, 0, 0, 0] == 9
    assert len(judged_steps([recording(5, 3)], 4, 6, 16).observations) == 3


def test_nothing_is_judged_where_the_picture_is_an_earlier_one():
    one = replace(recording(5, 4), picture_is_new=np.array([True, False, False, True]))
    one.actions[:, 0] = [0, 1, 2, 3]
    steps = judged_steps([one], 2, 9, 16)
    assert steps.actions[:, 0, 0].tolist() == [0, 3]
