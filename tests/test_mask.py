"""The bits of every mask, written out."""

import numpy as np

from pi0_jax.model import mask
from pi0_jax.testing import observation


def bits(array) -> list[str]:
    """Rows of a bool matrix as strings of 0 and 1."""
    return ["".join(str(int(bit)) for bit in row) for row in np.asarray(array)]


def observed(images: list[str], prompts: list[str]):
    """An observation with these masks: a character a camera, a character a prompt token."""
    obs = observation(len(images))
    read = lambda rows: np.array([[c == "1" for c in row] for row in rows])  # noqa: E731
    return obs.replace(image_mask=read(images), prompt_mask=read(prompts))


def test_prefix_mask():
    obs = observed(["11", "01", "00"], ["1110", "1000", "1111"])
    assert bits(mask.prefix_mask(obs, tokens_per_image=3)) == [
        # camera 0, camera 1, prompt
        "111" "111" "1110",
        "000" "111" "1000",
        "000" "000" "1111",
    ]  # fmt: skip


def test_an_absent_camera_takes_up_no_position():
    obs = observed(["11", "01", "10"], ["110", "110", "110"])
    positions = mask.positions(mask.prefix_mask(obs, tokens_per_image=2))
    assert positions.tolist() == [
        [0, 1, 2, 3, 4, 5, 5],
        [-1, -1, 0, 1, 2, 3, 3],
        [0, 1, 1, 1, 2, 3, 3],
    ]


def test_real_tokens_count_from_zero_without_a_gap():
    rng = np.random.default_rng(0)
    valid = rng.random((50, 9)) < 0.5
    positions = np.asarray(mask.positions(valid))
    for row, where in zip(positions, valid, strict=True):
        assert row[where].tolist() == list(range(where.sum()))


def test_the_suffix_counts_on():
    prefix = np.array([[1, 1, 0, 0, 1], [0, 0, 0, 0, 0]], bool)
    assert mask.suffix_positions(prefix, 3).tolist() == [[3, 4, 5], [0, 1, 2]]


def test_suffix_mask():
    assert bits(mask.suffix_mask(horizon=3)) == [
        "1000",  # the state sees itself
        "1111",
        "1111",
        "1111",
    ]


def test_suffix_mask_without_a_state_token():
    assert bits(mask.suffix_mask(horizon=2, states=0)) == ["11", "11"]
