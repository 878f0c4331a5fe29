"""The data path: against openpi's (tiny_transforms_io.npz), and by hand."""

import dataclasses

import numpy as np
import pytest
from checkpoints import GOLDENS, ROBOT, random_stats
from hypothesis import given
from hypothesis import strategies as st

from pi0_jax.data.action_space import ActionSpace
from pi0_jax.data.normalize import NormStats, Stats, load_norm_stats
from pi0_jax.data.tokenizer import ByteTokenizer
from pi0_jax.data.transforms import Transforms
from pi0_jax.env.robosuite.panda_robot import PANDA
from pi0_jax.episode import RawObs
from pi0_jax.errors import InputError
from pi0_jax.pictures import resize_with_pad

FOLDERS = {"native": "tiny_pi0", "padded32": "tiny_pi0_released"}
CASES = [(s, d, q) for s in FOLDERS for d in (0, 1) for q in (0, 1)]


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDENS / "tiny_transforms_io.npz") as file:
        return dict(file)


def libero(stats: str, delta: int, quantile: int) -> Transforms:
    asset = "assets/physical-intelligence/libero/norm_stats.json"
    return Transforms(
        image_size=224,
        padded_dim=32,
        prompt_length=48,
        tokenizer=ByteTokenizer(),
        stats=load_norm_stats(GOLDENS / FOLDERS[stats] / asset),
        robot=PANDA,
        action_space=ActionSpace((True,) * 6 * delta),
        quantile=bool(quantile),
    )


@pytest.mark.parametrize(("stats", "delta", "quantile"), CASES)
def test_states_and_actions_of_openpi(
    golden: dict[str, np.ndarray], stats: str, delta: int, quantile: int
) -> None:
    transforms = libero(stats, delta, quantile)
    name = f"{stats}/extra_delta={delta}/quantile={quantile}"
    raw_state = golden["raw/observation/state"]
    found = {
        "state": transforms.state(raw_state),
        "actions": transforms.actions(golden["raw/actions"], raw_state),
        "env_actions": transforms.robot_actions(golden["model_actions"], raw_state),
    }
    for key, value in found.items():
        np.testing.assert_allclose(value, golden[f"{name}/{key}"], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(
    ("raw", "model"), [("image", "base_0_rgb"), ("wrist_image", "left_wrist_0_rgb")]
)
def test_images_of_openpi(golden: dict[str, np.ndarray], raw: str, model: str) -> None:
    image = resize_with_pad(golden[f"raw/observation/{raw}"], 224)
    difference = image.astype(int) - golden[f"image_u8/{model}"].astype(int)
    assert np.abs(difference).max() <= 1


def test_a_wide_image_is_centred_on_black_and_the_odd_row_goes_below() -> None:
    # 4 wide, 1 high -> 4x4 keeps one row: one black row above, two below.
    image = np.full((1, 4, 3), 200, np.uint8)
    padded = resize_with_pad(image, 4)
    np.testing.assert_array_equal(padded[..., 0], [[0] * 4, [200] * 4, [0] * 4, [0] * 4])


def test_padding_is_zero_after_normalisation_and_a_delta_is_taken_from_the_raw_state() -> None:
    transforms = Transforms(
        8, 6, 12, ByteTokenizer(), random_stats(4, 3), ROBOT, ActionSpace((True, True))
    )
    state, actions = np.array([10.0, 20, 30, 40]), np.array([[11.0, 22, 5]])
    mean, std = transforms.stats.actions.mean, transforms.stats.actions.std
    expected = (np.array([1.0, 2, 5]) - mean) / (std + 1e-6)
    found = transforms.actions(actions, state)
    np.testing.assert_allclose(found[0], [*expected, 0, 0, 0], rtol=1e-6)


@given(
    mask=st.lists(st.booleans(), max_size=3),
    quantile=st.booleans(),
    actions=st.lists(st.floats(-5, 5, width=32), min_size=3, max_size=3),
)
def test_robot_actions_undo_actions(mask: list[bool], quantile: bool, actions: list[float]) -> None:
    transforms = Transforms(
        8, 6, 12, ByteTokenizer(), random_stats(4, 3), ROBOT, ActionSpace(tuple(mask)), quantile
    )
    state, wanted = np.array([0.5, -1.0, 2.0, 0.0]), np.array([actions])
    back = transforms.robot_actions(transforms.actions(wanted, state), state)
    np.testing.assert_allclose(back, wanted, atol=1e-4)


def test_observe_stacks_what_the_network_takes() -> None:
    transforms = Transforms(8, 6, 12, ByteTokenizer(), random_stats(4, 3), ROBOT)
    raw = RawObs(np.zeros((2, 10, 20, 3), np.uint8), np.zeros(4, np.float32), "lift it")
    obs = transforms.observe([raw, dataclasses.replace(raw, prompt="lift")])
    assert obs.images.shape == (2, 2, 8, 8, 3) and obs.images.dtype == np.uint8
    assert obs.image_mask.all() and obs.state.shape == (2, 6)
    # [bos] "lift it" newline, and "lift" is three bytes shorter.
    assert obs.prompt_mask.sum(1).tolist() == [9, 6]


def test_a_state_in_the_prompt_is_the_normalised_one_of_the_robots_own_width() -> None:
    low, high = np.array([0.0, 10, -1, 0]), np.array([4.0, 30, 1, 1])
    stats = Stats(low, high, q01=low, q99=high)
    transforms = Transforms(
        8, 6, 60, ByteTokenizer(), NormStats(stats, stats), ROBOT, quantile=True,
        state_in_prompt=True,
    )  # fmt: skip
    # A quarter, the middle, below and above of what the statistics have seen; a bin is 1 / 256.
    state = np.array([1.0, 20, -3, 9], np.float32)
    obs = transforms.observe([RawObs(np.zeros((2, 8, 8, 3), np.uint8), state, "lift")])
    text = "Task: lift, State: 63 127 -1 255;\nAction: "  # the epsilon keeps both below the edge
    assert obs.prompt[0][obs.prompt_mask[0]].tolist() == [1, *(b + 2 for b in text.encode())]
    np.testing.assert_allclose(obs.state[0, :4], [-0.5, 0, -3, 17], atol=1e-4)
    plain = dataclasses.replace(transforms, state_in_prompt=False)
    assert plain.prompt("lift", state)[1].sum() == 6


def test_a_state_in_the_prompt_may_be_padded_as_lerobot_04_did() -> None:
    own = Transforms(8, 6, 60, ByteTokenizer(), random_stats(4, 3), ROBOT, state_in_prompt=True)
    padded = dataclasses.replace(own, padded_state_text=True)
    mean = own.stats.state.mean
    encoded = (each.prompt("lift", mean) for each in (own, padded))
    texts = [bytes((ids[mask][1:] - 2).tolist()) for ids, mask in encoded]
    # Zeros are in bin 128; the network has six dimensions, the robot four.
    assert b"State: 128 128 128 128;" in texts[0]
    assert b"State: 128 128 128 128 128 128;" in texts[1]
    with pytest.raises(InputError, match="53 tokens does not fit the model's 52"):
        dataclasses.replace(padded, prompt_length=52).check_prompt("lift")


def test_a_prompt_is_checked_with_room_for_any_state() -> None:
    # "Task: lift, State: 255 255 255 255;", a newline and "Action: " are 44 bytes, and bos.
    fits = Transforms(8, 6, 45, ByteTokenizer(), random_stats(4, 3), ROBOT, state_in_prompt=True)
    fits.check_prompt("lift")
    with pytest.raises(InputError, match="45 tokens does not fit the model's 44"):
        dataclasses.replace(fits, prompt_length=44).check_prompt("lift")
    dataclasses.replace(fits, prompt_length=6, state_in_prompt=False).check_prompt("lift")
