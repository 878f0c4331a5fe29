"""Training windows: every executed step is covered, none is invented."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CONFIG, episode, transforms

from pi0_jax.data.windows import (
    WindowConfig,
    concatenate,
    count,
    cut_windows,
    take,
    take_across,
    window_starts,
)
from pi0_jax.episode import Episode
from pi0_jax.errors import InputError

TRANSFORMS = transforms()
HORIZON = CONFIG.action_horizon


def robot(windows) -> np.ndarray:
    """The windows' actions in the robot's units, float32[n, H, 7]."""
    return TRANSFORMS.robot_actions(windows.actions, np.zeros((count(windows), 8)))


@settings(max_examples=30)
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


def looked_at(steps: int, execute: int, every: int):
    """An episode as a rollout gives it: chunks of `execute`, and a look every n steps."""
    chunks = range(0, steps, execute)
    looks = sorted({*chunks, *(range(0, steps, every) if every else ())})
    return episode(steps, looks, chunk_start=np.isin(np.arange(steps), chunks))


@settings(max_examples=60)
@given(
    steps=st.integers(1, 14),
    execute=st.integers(1, 6),
    every=st.integers(1, 6),
    horizon=st.integers(1, 7),
    short=st.booleans(),
)
def test_a_stride_covers_every_executed_step_as_often_as_it_says(
    steps, execute, every, horizon, short
):
    """Multiple of the executed steps or not: windows are counted from the episode's start."""
    done = looked_at(steps, execute, every)
    config = WindowConfig(every, skip_short=short)
    found = window_starts(done, horizon, config).tolist()
    wanted = [s for s in range(0, steps, every) if not short or s + horizon <= steps]
    assert found == wanted
    if not wanted:
        return
    windows = cut_windows([done], [1.0], TRANSFORMS, horizon, config)
    times = np.zeros(steps, int)
    for start, actions, mask in zip(found, robot(windows), windows.action_mask, strict=True):
        real = int(mask.sum())
        assert mask.tolist() == [True] * real + [False] * (horizon - real)
        np.testing.assert_allclose(actions[:real], done.actions[start : start + real], atol=1e-6)
        times[start : start + real] += 1
    expected = [sum(s <= step < s + horizon for s in wanted) for step in range(steps)]
    assert times.tolist() == expected
    if not short and every <= horizon:
        assert times.min() >= 1


@settings(max_examples=30)
@given(steps=st.integers(1, 14), execute=st.integers(1, 6), every=st.integers(0, 6))
def test_executed_windows_do_not_see_the_looks_between(steps, execute, every):
    done = looked_at(steps, execute, every)
    starts = list(range(0, steps, execute))
    assert window_starts(done, HORIZON, WindowConfig()).tolist() == starts
    assert window_starts(done, HORIZON, WindowConfig("last")).tolist() == starts[-1:]


def test_the_last_window():
    """Ten steps in chunks of four, horizon four: the third window is short."""
    done = looked_at(10, 4, 0)
    assert window_starts(done, 4, WindowConfig("last")).tolist() == [8]
    assert window_starts(done, 4, WindowConfig("last", skip_short=True)).tolist() == [4]
    assert window_starts(done, 4, WindowConfig(skip_short=True)).tolist() == [0, 4]
    assert window_starts(done, 11, WindowConfig(skip_short=True)).tolist() == []


def test_a_window_of_a_stride_sees_the_picture_of_its_step():
    done = looked_at(7, 3, 2)  # pictures at 0 2 3 4 6
    windows = cut_windows([done], [1.0], TRANSFORMS, HORIZON, WindowConfig("2"))
    np.testing.assert_array_equal(windows.obs.images, done.images[[0, 1, 3, 4]])
    np.testing.assert_allclose(windows.obs.state, (done.state[[0, 2, 4, 6]] - 0.1) / 0.5, atol=1e-5)


def test_an_episode_without_a_whole_window_is_left_out():
    config = WindowConfig(skip_short=True)
    windows = cut_windows([episode(3, [0]), episode(4, [0])], [1.0, 2.0], TRANSFORMS, 4, config)
    assert windows.weight.tolist() == [2.0]
    with pytest.raises(InputError, match="no episode has a whole window of 4 steps"):
        cut_windows([episode(3, [0])], [1.0], TRANSFORMS, 4, config)


def test_a_stride_needs_its_pictures():
    with pytest.raises(ValueError, match=r"stride 2 needs images at the steps \[2, 4\]"):
        window_starts(episode(6, [0, 3]), HORIZON, WindowConfig(2))


@pytest.mark.parametrize("stride", ["first", 0, "0", -1, "-1", 1.5, True, ""])
def test_an_unknown_stride_is_refused(stride):
    with pytest.raises(InputError, match=r"rl\.windows\.stride must be 'executed', 'last' or a"):
        WindowConfig(stride)


@pytest.mark.parametrize(("stride", "every"), [("executed", 0), ("last", 0), (3, 3), ("12", 12)])
def test_steps_of_a_stride(stride, every):
    assert WindowConfig(stride).every == every


@settings(max_examples=30)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.lists(st.integers(0, 99)))
def test_taking_across_parts_is_taking_from_the_whole(sizes, indices):
    parts = [
        cut_windows([episode(size, list(range(size)), seed=size + i)], [i], TRANSFORMS, HORIZON)
        for i, size in enumerate(sizes)
    ]
    chosen = np.array(indices, int) % sum(sizes)
    one, other = take_across(parts, chosen), take(concatenate(parts), chosen)
    np.testing.assert_array_equal(one.actions, other.actions)
    np.testing.assert_array_equal(one.obs.images, other.obs.images)
    np.testing.assert_array_equal(one.weight, other.weight)


@pytest.mark.parametrize(
    ("branch_mode", "said", "other"),
    [("prompt_dropout", 15, 2), ("text_indicator", 36, 15)],
)
def test_branches_by_prompt_have_two(branch_mode, said, other):
    """Bytes: begin, letters, newline. "reach the dot" has 13 letters, the words behind it 21."""
    told = dataclasses.replace(TRANSFORMS, branch_mode=branch_mode, prompt_length=48)
    windows = cut_windows([episode(6, [0, 4])], [1.0], told, HORIZON)
    assert windows.obs.prompt_mask.sum(1).tolist() == [said, said]
    assert windows.uncond_prompt_mask.sum(1).tolist() == [other, other]
    assert windows.uncond_prompt.shape == windows.obs.prompt.shape == (2, 48)
    assert take(windows, np.array([1])).uncond_prompt.shape == (1, 48)
    plain = cut_windows([episode(6, [0, 4])], [1.0], TRANSFORMS, HORIZON)
    assert plain.uncond_prompt is plain.uncond_prompt_mask is None


def with_chains(done: Episode) -> Episode:
    """Chain i of an episode consists of the number i."""
    numbers = np.arange(done.chunk_start.sum(), dtype=np.float32)[:, None, None, None]
    chain = np.broadcast_to(numbers, (len(numbers), 3, HORIZON, 8))
    log_prob = np.broadcast_to(-numbers, (len(numbers), 2, HORIZON, 7))
    return dataclasses.replace(done, chain=chain, chain_log_prob=log_prob)


def test_a_window_with_a_chain_is_a_policy_call():
    """Calls at 0, 3 and 6 of 8 steps, horizon 4: 3, 3 and 2 actions are of the call's own chunk."""
    done = with_chains(episode(8, [0, 3, 6]))
    windows = cut_windows([done], [-0.5], TRANSFORMS, HORIZON)
    assert windows.chain.shape == (3, 3, HORIZON, 8)
    assert windows.chain[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert windows.chain_log_prob[:, 0, 0, 0].tolist() == [0, -1, -2]
    assert windows.action_mask.sum(1).tolist() == [3, 3, 2]
    last = cut_windows([done], [1.0], TRANSFORMS, HORIZON, WindowConfig(stride="last"))
    assert last.chain[:, 0, 0, 0].tolist() == [2]
    # All else is as without chains.
    plain = cut_windows([episode(8, [0, 3, 6])], [-0.5], TRANSFORMS, HORIZON)
    np.testing.assert_array_equal(windows.actions, plain.actions)
    assert plain.action_mask.sum(1).tolist() == [4, 4, 2]
    assert plain.chain is plain.chain_log_prob is None


def test_a_window_between_policy_calls_has_no_chain():
    looks = dataclasses.replace(episode(4, [0, 2]), chunk_start=np.arange(4) == 0)
    with pytest.raises(InputError, match=r"rl.windows.stride asks for windows elsewhere; set it"):
        cut_windows([with_chains(looks)], [1.0], TRANSFORMS, HORIZON, WindowConfig(stride=2))
