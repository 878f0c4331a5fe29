"""The action space: differences by hand, their inverse, the spelling of masks, what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi0_jax.data.action_space import ActionSpace, mask_text, parse_mask
from pi0_jax.errors import InputError
from pi0_jax.robot import Robot, numbered
from pi0_jax.robots import load_robot

ROBOT = Robot("small", ("front",), numbered("state", 2), numbered("action", 3))


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("6,-1", (True,) * 6 + (False,)),
        ("2,-1,1,-2", (True, True, False, True, False, False)),
        ("-3", (False,) * 3),
    ],
)
def test_masks_are_spelled_as_in_openpi(text: str, mask: tuple[bool, ...]) -> None:
    assert parse_mask(text) == mask
    assert mask_text(mask) == text


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_text_and_mask_undo_each_other(mask: list[bool]) -> None:
    assert parse_mask(mask_text(tuple(mask))) == tuple(mask)


@pytest.mark.parametrize("text", ["", "6,", "6,x", "0,1"])
def test_other_text_is_no_mask(text: str) -> None:
    with pytest.raises(ValueError):
        parse_mask(text)


def test_relative_actions_are_less_the_state_of_the_same_index() -> None:
    space = ActionSpace((False, True))
    state, actions = np.array([10.0, 20]), np.array([[1.0, 21, 5], [2, 25, 6]])
    np.testing.assert_array_equal(space.encode(actions, state), [[1, 1, 5], [2, 5, 6]])
    np.testing.assert_array_equal(space.decode(space.encode(actions, state), state), actions)
    np.testing.assert_array_equal(space.state(state), state)


@given(mask=st.lists(st.booleans(), max_size=14), adapt=st.sampled_from(["none", "openpi"]))
def test_decode_undoes_encode_with_aloha_too(mask: list[bool], adapt: str) -> None:
    rng, space = np.random.default_rng(len(mask)), ActionSpace(tuple(mask), adapt)
    state, actions = rng.uniform(0, 1, 14), rng.uniform(-1, 1, (4, 14))
    np.testing.assert_allclose(space.decode(space.encode(actions, state), state), actions)


def test_aloha_comes_before_the_difference() -> None:
    """Joint 1 is flipped: 0.5 - 0.2 with both signs changed."""
    state, actions = np.full(14, 0.2), np.full((1, 14), 0.5)
    encoded = ActionSpace((True, True), "openpi").encode(actions, state)
    np.testing.assert_allclose(encoded[0, :2], [0.3, -0.3])


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (ActionSpace((True, False, False, False)), "expected at most 3 actions"),
        (ActionSpace((False, False, True)), "among the first 2"),
        (ActionSpace((), "openpi"), "14 values of state and 14 actions"),
    ],
)
def test_a_robot_without_these_dimensions_is_an_error(space: ActionSpace, message: str) -> None:
    with pytest.raises(InputError, match=message):
        space.check_robot(ROBOT)


def test_aloha_fits_its_own_robot_and_an_unknown_conversion_is_an_error() -> None:
    ActionSpace(parse_mask("6,-1,6,-1"), "lerobot").check_robot(load_robot("aloha"))
    with pytest.raises(InputError, match="adapt_to_pi must be one of"):
        ActionSpace((), "trossen")


def test_a_mask_holds_true_and_false_and_is_no_longer_than_a_robot() -> None:
    with pytest.raises(InputError, match="delta_mask must hold true and false"):
        ActionSpace(tuple("6,-1"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="up to 1000"):
        parse_mask("999999999999")
