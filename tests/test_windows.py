"""Training windows: every executed step is covered, none is invented."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CONFIG, episode, transforms

from pi0_jax.data.windows import concatenate, count, cut_windows, take

TRANSFORMS = transforms()
HORIZON = CONFIG.action_horizon


def robot(windows) -> np.ndarray:
    """The windows' actions in the robot's units, float32[n, H, 7]."""
    return TRANSFORMS.robot_actions(windows.actions, np.zeros((count(windows), 8)))


@settings(max_examples=30, deadline=None)
@given(steps=st.integers(1, 12), every=st.integers(1, 6), horizon=st.integers(1, 7))
def test_windows_are_what_was_executed(steps, every, horizon):
    looks = list(range(0, steps, every))
    done = episode(steps, looks)
    windows = cut_windows([done], [1.0], TRANSFORMS, horizon)
    assert count(windows) == len(looks)
    covered = set()
    for start, actions, mask in zip(looks, robot(windows), windows.action_mask, strict=True):
        for offset in range(horizon):
            assert mask[offset] == (start + offset < steps)
            expected = done.actions[min(start + offset, steps - 1)]
            np.testing.assert_allclose(actions[offset], expected, atol=1e-6)
        covered |= {start + offset for offset in range(horizon) if mask[offset]}
    reach = {start + offset for start in looks for offset in range(horizon)}
    assert covered == reach & set(range(steps))
    if horizon >= every:
        assert covered == set(range(steps))


def test_the_end_of_an_episode():
    """Six steps, looks at 0 and 4, horizon 4: two real actions, then the last one again."""
    windows = cut_windows([episode(6, [0, 4])], [0.5], TRANSFORMS, 4)
    assert windows.action_mask.tolist() == [[True] * 4, [True, True, False, False]]
    np.testing.assert_array_equal(windows.actions[1, 1], windows.actions[1, 2])
    np.testing.assert_array_equal(windows.actions[1, 1], windows.actions[1, 3])
    assert windows.weight.tolist() == [0.5, 0.5]


def test_a_window_holds_the_observation_at_its_start():
    done = episode(6, [0, 4])
    windows = cut_windows([done], [1.0], TRANSFORMS, HORIZON)
    np.testing.assert_array_equal(windows.obs.images, done.images)  # 16 px as they are
    np.testing.assert_allclose(windows.obs.state, (done.state[[0, 4]] - 0.1) / 0.5, atol=1e-5)
    assert windows.obs.image_mask.all()
    assert windows.obs.prompt_mask.sum(1).tolist() == [15, 15]  # bos, 13 letters, newline
    np.testing.assert_array_equal(windows.actions[..., 7:], 0)


def test_episodes_keep_their_order_and_weight():
    windows = cut_windows(
        [episode(3, [0]), episode(5, [0, 2, 4], seed=1), episode(2, [0], seed=2)],
        [0.0, 0.25, 2.0],
        TRANSFORMS,
        HORIZON,
    )
    assert windows.weight.tolist() == [0.0, 0.25, 0.25, 0.25, 2.0]
    assert windows.weight.dtype == np.float32
    np.testing.assert_allclose(robot(windows)[4, 0], episode(2, [0], seed=2).actions[0], atol=1e-6)


def test_weights_are_one_an_episode():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        cut_windows([episode(3, [0])], [1.0, 0.0], TRANSFORMS, HORIZON)


def test_take_and_concatenate():
    windows = cut_windows([episode(6, [0, 2, 4])], [1.0], TRANSFORMS, HORIZON)
    picked = take(windows, np.array([2, 0, 2]))
    assert count(picked) == 3
    np.testing.assert_array_equal(picked.obs.state, windows.obs.state[[2, 0, 2]])
    twice = concatenate([picked, windows])
    assert count(twice) == 6
    np.testing.assert_array_equal(twice.actions[3:], windows.actions)
