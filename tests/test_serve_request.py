"""Observations of openpi's examples become RawObs; what cannot is one clear error."""

import dataclasses

import numpy as np
import pytest
from servers import panda_folder

from pi0_jax.env.scripted import SCRIPTED_ROBOT
from pi0_jax.errors import InputError
from pi0_jax.robots import load_robot
from pi0_jax.serve.layouts import ALOHA, LIBERO, flattened, layouts_of, plain_layout
from pi0_jax.serve.request import MOST_SEED, Request, Rules, Sampling, check_fits, read_request

SIDE = 4
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def transforms():
    return panda_folder().transforms


def rules(robot: str = "libero_panda", **changes) -> Rules:
    made = load_robot(robot)
    fixed = Rules(made, layouts_of(made), Sampling(1.0, 10), (0.0, 3.0), (1, 20), SIDE)
    return dataclasses.replace(fixed, **changes)


def picture() -> np.ndarray:
    return RNG.integers(256, size=(SIDE, SIDE, 3), dtype=np.uint8)


def libero(**changes) -> dict:
    """What `examples/libero/main.py` sends."""
    return {
        "observation/image": picture(),
        "observation/wrist_image": picture(),
        "observation/state": np.linspace(0, 0.7, 8),
        "prompt": "lift the cube",
    } | {key.replace("__", "/"): value for key, value in changes.items()}


def nested(depth: int) -> list:
    """A list in a list in a list..."""
    return [nested(depth - 1)] if depth else []


def test_libero():
    sent = libero()
    asked = read_request(sent, rules())
    np.testing.assert_array_equal(asked.obs.images[0], sent["observation/image"])
    np.testing.assert_array_equal(asked.obs.images[1], sent["observation/wrist_image"])
    np.testing.assert_allclose(asked.obs.state, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], rtol=1e-6)
    assert asked.obs.state.dtype == np.float32
    assert asked == Request(asked.obs, Sampling(1.0, 10), None)
    assert (asked.obs.prompt, asked.obs.camera_mask) == ("lift the cube", None)


def test_droid():
    """`examples/droid/main.py`: joints and gripper come apart, the gripper as one number."""
    sent = {
        "observation/exterior_image_1_left": picture(),
        "observation/wrist_image_left": picture(),
        "observation/joint_position": np.arange(7.0),
        "observation/gripper_position": np.array([0.5]),
        "prompt": "open the drawer",
    }
    obs = read_request(sent, rules("droid")).obs
    np.testing.assert_array_equal(obs.state, [0, 1, 2, 3, 4, 5, 6, 0.5])
    np.testing.assert_array_equal(obs.images[1], sent["observation/wrist_image_left"])
    for one in (0.5, np.array(0.5)):
        again = read_request(sent | {"observation/gripper_position": one}, rules("droid")).obs
        np.testing.assert_array_equal(again.state, obs.state)


def test_aloha():
    """`examples/aloha_real`: colours first, a camera that no policy reads, and no prompt."""
    cameras = ("cam_high", "cam_low", "cam_left_wrist", "cam_right_wrist")
    images = {camera: np.moveaxis(picture(), -1, 0) for camera in cameras}
    sent = {"state": np.ones(14), "images": images}
    obs = read_request(sent, rules("aloha", default_prompt="fold the towel")).obs
    assert obs.prompt == "fold the towel"
    for image, camera in zip(obs.images, ("cam_high", *cameras[2:]), strict=True):
        np.testing.assert_array_equal(np.moveaxis(image, -1, 0), images[camera])
    assert ALOHA.metadata["reset_pose"] == [0, -1.5, 1.5, 0, 0, 0]


def test_alohas_simulator_has_one_camera_and_the_policy_is_told():
    sent = {"state": np.ones(14), "images": {"cam_high": picture()}, "prompt": "insert the peg"}
    obs = read_request(sent, rules("aloha")).obs
    np.testing.assert_array_equal(obs.camera_mask, [True, False, False])
    np.testing.assert_array_equal(obs.images[0], sent["images"]["cam_high"])


def test_any_robot_has_plain_keys():
    assert layouts_of(SCRIPTED_ROBOT) == (plain_layout(SCRIPTED_ROBOT),)
    sent = {"images": {"agentview": picture(), "robot0_eye_in_hand": picture()}}
    sent |= {"state": [0.0] * 8, "prompt": "go"}
    obs = read_request(sent, rules()).obs
    np.testing.assert_array_equal(obs.images[1], sent["images"]["robot0_eye_in_hand"])


def test_a_layout_can_be_named_where_it_fits():
    assert layouts_of(SCRIPTED_ROBOT, "libero")[0] == LIBERO
    with pytest.raises(InputError, match="has 3 cameras"):
        layouts_of(SCRIPTED_ROBOT, "aloha")
    with pytest.raises(InputError, match="one of libero, droid, aloha"):
        layouts_of(SCRIPTED_ROBOT, "ur5")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_images_are_truncated_as_in_openpi(dtype):
    image = np.full((SIDE, SIDE, 3), 0.999, dtype)
    obs = read_request(libero(observation__image=image), rules()).obs
    assert (obs.images[0] == 254).all()


def test_images_of_other_sizes_are_resized_as_the_policy_does():
    wide = np.full((2, 2 * SIDE, 3), 200, np.uint8)
    obs = read_request(libero(observation__image=wide), rules()).obs
    assert obs.images.shape == (2, SIDE, SIDE, 3)
    # Half as high as wide at the network's size: one black row above, two below... of four.
    assert (obs.images[0] == 200).all(-1).any(1).sum() == 1


def test_what_a_request_may_choose():
    chosen = {"guidance": 2, "num_flow_steps": 5, "seed": 7}
    asked = read_request(libero() | chosen, rules())
    assert (asked.sampling, asked.seed) == (Sampling(2.0, 5), (7,))
    many = read_request(libero(seed=[100000, 0, 0, 5]), rules())
    assert many.seed == (100000, 0, 0, 5)
    assert read_request(libero(seed=np.array([3, 4])), rules()).seed == (3, 4)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"guidance": 3.5}, "'guidance': expected 0 to 3, as this server allows, got 3.5"),
        ({"guidance": float("nan")}, "'guidance': expected 0 to 3"),
        ({"guidance": True}, "'guidance': expected 0 to 3"),
        ({"guidance": nested(900)}, r"'guidance': expected 0 to 3, .* got \[\["),
        ({"num_flow_steps": 21}, "expected 1 to 20"),
        ({"num_flow_steps": 2.0}, "expected a whole number"),
        ({"seed": -1}, "expected a whole number from 0"),
        ({"seed": MOST_SEED + 1}, r"from 0 to 2\*\*64 - 1"),
        ({"seed": nested(900)}, r"expected a whole number from 0 .* got \[\["),
        ({"seed": "7"}, "expected a whole number from 0"),
        ({"seed": []}, "expected a whole number from 0"),
        ({"seed": [1] * 9}, "at most 8"),
        ({"observation/imag": 1}, "unknown key 'observation/imag'; the nearest .*image'"),
        ({"prompt": 3}, "'prompt': expected a text, got 3"),
        ({"prompt": "\ud800"}, r"'prompt': expected a text of Unicode, got '\\ud800'"),
        ({"prompt": nested(900)}, r"'prompt': expected a text, got \[\["),
        ({"prompt": None}, "'prompt' is missing, and the server has no --default-prompt"),
        ({"observation/image": None}, "expected an image .* got None"),
        ({"observation/image": np.zeros((4, 4), np.uint8)}, r"got uint8\[4, 4\]"),
        ({"observation/image": np.zeros((4, 4, 4), np.uint8)}, r"got uint8\[4, 4, 4\]"),
        ({"observation/image": np.zeros((3, 4, 3), np.uint8)}, r"got uint8\[3, 4, 3\]"),
        (
            {"observation/image": np.zeros((0, 4, 3), np.uint8)},
            "1 to 2048 pixels a side and no thin strip",
        ),
        ({"observation/image": np.zeros((0, 0, 3), np.uint8)}, "got 0 x 0"),
        (
            {"observation/image": np.zeros((1, 9, 3), np.uint8)},
            "1 to 2048 pixels a side and no thin strip",
        ),
        ({"observation/image": np.zeros((1, 2049, 3), np.uint8)}, "got 1 x 2049"),
        ({"observation/image": np.zeros((4, 4, 3), np.int64)}, r"got int64\[4, 4, 3\]"),
        ({"observation/image": np.full((4, 4, 3), 255.0)}, r"in \[0, 1\], got 0 to 255"),
        ({"observation/image": np.full((4, 4, 3), np.nan)}, r"in \[0, 1\], got nan"),
        ({"observation/state": np.zeros(7)}, r"a state of 8 numbers .* got float32\[7\]"),
        ({"observation/state": np.zeros((1, 8))}, r"expected numbers \[n\], got float64\[1, 8\]"),
        ({"observation/state": np.full(8, np.nan)}, "finite state, got NaN"),
        ({"observation/state": np.full(8, 1e300)}, "finite state, got NaN or infinity"),
        ({"observation/state": [1, "2"]}, "expected an array of numbers"),
        ({"observation/state": "1"}, "expected an array of numbers"),
        ({"observation": {"image": 1}}, "'observation/image' twice"),
        ({b"bytes": 1}, "keys that are texts"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(changes, match):
    with pytest.raises(InputError, match=match) as error:
        read_request(libero() | changes, rules())
    assert len(str(error.value)) < 300


def test_a_chunk_that_is_being_executed():
    sent = libero() | {"previous_actions": np.ones((3, 7)), "frozen_actions": 2}
    asked = read_request(sent, rules(horizon=4))
    assert asked.ongoing is not None
    assert (asked.ongoing.actions.shape, asked.ongoing.frozen) == ((3, 7), 2)
    assert asked.program != read_request(libero(), rules(horizon=4)).program


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"frozen_actions": None}, "expected 0 to 3 of them frozen .* got None"),
        ({"frozen_actions": 4}, "expected 0 to 3 of them frozen"),
        ({"previous_actions": np.ones((5, 7))}, "expected 1 to 4 actions of 7 numbers"),
        ({"previous_actions": np.ones((3, 6))}, "expected 1 to 4 actions of 7 numbers"),
        ({"previous_actions": np.full((3, 7), 1e300)}, "finite actions"),
        ({"previous_actions": [[0.0] * 7]}, r"expected numbers \[n, e\], got \[\["),
        ({"previous_actions": np.ones((3, 7), bool)}, r"got bool\[3, 7\]"),
    ],
)
def test_a_chunk_that_does_not_fit(changes, match):
    sent = libero() | {"previous_actions": np.ones((3, 7)), "frozen_actions": 2} | changes
    with pytest.raises(InputError, match=match):
        read_request(sent, rules(horizon=4))


def test_what_the_operator_does_not_allow():
    with pytest.raises(InputError, match="lets no request choose its seed"):
        read_request(libero(seed=1), rules(seeds=False))
    with pytest.raises(InputError, match=r"'frozen_actions': .* without --real-time"):
        read_request(libero(frozen_actions=1), rules())
    with pytest.raises(InputError, match="go together, got 'frozen_actions' alone"):
        read_request(libero(frozen_actions=1), rules(horizon=4))


def test_a_missing_key_names_what_is_needed():
    sent = libero()
    del sent["observation/wrist_image"]
    with pytest.raises(InputError, match="'observation/wrist_image' is missing; send obs"):
        read_request(sent, rules())


def test_what_is_no_map():
    with pytest.raises(InputError, match="expected a map of an observation, got list"):
        read_request([1], rules())


def test_maps_in_maps_are_longer_keys():
    assert flattened({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a/b": 1, "a/c/d": 2, "e": 3}


def test_maps_in_maps_without_end():
    deep: dict = {"x": 1}
    for _ in range(7):
        deep = {"a": deep}
    assert flattened(deep) == {"a/a/a/a/a/a/a/x": 1}
    for _ in range(988):  # as many as Python would follow, and more
        deep = {"a": deep}
    with pytest.raises(InputError, match="at most 8 maps in one another"):
        flattened(deep)


def test_numbers_that_overflow_the_network(transforms):
    asked = read_request(libero(observation__state=np.full(8, 1e6)), rules())
    check_fits(asked, transforms)
    state = np.zeros(8)
    state[2] = 3e38  # finite, and no longer when it is normalised
    with pytest.raises(InputError, match=r"the state: .* at most 1e\+12 .* in \['z'\];"):
        check_fits(read_request(libero(observation__state=state), rules()), transforms)


def test_a_chunk_that_overflows_the_network(transforms):
    chunk = {"previous_actions": np.ones((3, 7)), "frozen_actions": 2}
    check_fits(read_request(libero() | chunk, rules(horizon=4)), transforms)
    chunk["previous_actions"][1, 0] = 1e20
    with pytest.raises(InputError, match=r"'previous_actions': expected .* in \['x'\]"):
        check_fits(read_request(libero() | chunk, rules(horizon=4)), transforms)


def test_a_prompt_that_is_too_long(transforms):
    with pytest.raises(InputError, match="prompt"):
        check_fits(read_request(libero(prompt="x" * 99), rules()), transforms)


def test_a_default_outside_of_its_limits():
    with pytest.raises(InputError, match="'guidance': expected 2 to 3"):
        rules(guidance=(2.0, 3.0))
