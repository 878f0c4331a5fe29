"""Statistics over chunks: by hand, and as NumPy computes them from all chunks at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_jax.data.action_space import AS_THE_ROBOT, ActionSpace
from pi0_jax.data.chunk_stats import STATE_FLOOR, motion_stats
from pi0_jax.errors import InputError


def test_by_hand():
    """Two steps: the chunk at 0 goes to 1 and 4 from state 1, the chunk at 1 to 4 from state 3."""
    motions = [(np.array([[1.0, 0.0], [3.0, 0.0]]), np.array([[1.0, 5.0], [4.0, 7.0]]))]
    plain = motion_stats(motions, AS_THE_ROBOT, 2, 0.0)
    assert plain.state.mean.tolist() == [2.0, 0.0]
    # The chunks hold 1, 4 and 4; 5, 7 and 7.
    np.testing.assert_allclose(plain.actions.mean, [3.0, 19 / 3], rtol=1e-15)
    assert motion_stats(motions, AS_THE_ROBOT, 1, 0.0).actions.mean.tolist() == [2.5, 6.0]
    relative = motion_stats(motions, ActionSpace((True,)), 2, 0.0)
    # 1 - 1, 4 - 1 and 4 - 3; the second dimension stays as it is.
    np.testing.assert_allclose(relative.actions.mean, [4 / 3, 19 / 3], rtol=1e-15)
    np.testing.assert_allclose(relative.actions.std, [np.std([0, 3, 1]), np.std([5, 7, 7])])


def test_what_hardly_moves_has_a_floor():
    motions = [(np.array([[1.0, 0.0], [3.0, 0.0]]), np.array([[1.0, 5.0], [4.0, 7.0]]))]
    floored = motion_stats(motions, AS_THE_ROBOT, 2, 9.0)
    assert floored.actions.std.tolist() == [9.0, 9.0]
    assert floored.state.std.tolist() == [1.0, STATE_FLOOR]
    assert (floored.actions.q99 - floored.actions.q01).tolist() == [18.0, 18.0]


MASKS = st.lists(st.booleans(), max_size=3).map(tuple)


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    horizon=st.integers(1, 70),
    mask=MASKS,
    seed=st.integers(0, 9),
)
def test_equal_to_numpy_on_all_chunks_in_float64(lengths, horizon, mask, seed):
    """Float32 data of a continuous, an integer and a two-valued dimension."""
    rng = np.random.default_rng(seed)

    def made(steps: int) -> np.ndarray:
        parts = (rng.normal(3, 1e3, steps), rng.integers(0, 3, steps), rng.integers(0, 2, steps))
        return np.stack(parts, 1).astype(np.float32)

    motions = [(made(n), made(n)) for n in lengths]
    found = motion_stats(motions, ActionSpace(mask), horizon, 0.0)
    relative = np.array([*mask, *[False] * (3 - len(mask))])
    chunks = np.concatenate(
        [
            actions[start : start + horizon].astype(float) - state[start].astype(float) * relative
            for state, actions in motions
            for start in range(len(actions))
        ]
    )
    np.testing.assert_allclose(found.actions.mean, chunks.mean(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.actions.std, chunks.std(0), rtol=1e-9, atol=1e-12)
    low, high = np.quantile(chunks, (0.01, 0.99), axis=0)
    np.testing.assert_array_equal(found.actions.q01, low)
    np.testing.assert_array_equal(found.actions.q99, high)


def test_the_conversion_of_aloha_comes_before_the_difference():
    rng = np.random.default_rng(0)
    state, actions = rng.uniform(0, 1, (2, 9, 14))
    space = ActionSpace((True,) * 6, "openpi")
    found = motion_stats([(state, actions)], space, 4, 0.0)
    chunks = [space.encode(actions[s : s + 4], state[s]) for s in range(9)]
    np.testing.assert_allclose(found.actions.mean, np.concatenate(chunks).mean(0), rtol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite(bad):
    actions = np.ones((3, 2))
    actions[1, 1] = bad
    with pytest.raises(InputError, match="statistics need finite samples"):
        motion_stats([(np.ones((3, 2)), actions)], AS_THE_ROBOT, 2, 0.0)
