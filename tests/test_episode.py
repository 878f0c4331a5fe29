"""Values of the rollout: groups, what an episode is without pictures, and digests."""

import re

import numpy as np
import pytest
from tiny import episode

from pi0_jax.episode import Group, digest, without_images


def test_without_images_only_the_images_go():
    short = without_images(episode(3, [0, 2], seed=4))
    assert (short.images.shape, short.image_steps.shape) == ((0,), (0,))
    assert (len(short), short.seed, len(short.state)) == (3, 4, 3)


@pytest.mark.parametrize(
    ("outcomes", "uniform"),
    [((1, 0, 1), False), ((1, 1, 1), True), ((0, 0), True), ((1,), True), ((), True)],
)
def test_groups(outcomes, uniform):
    group = Group(tuple(episode(2, [0], success=bool(outcome)) for outcome in outcomes))
    assert group.rewards.tolist() == list(outcomes)
    assert group.uniform is uniform


def test_digest_tells_arrays_apart():
    a = np.arange(6, dtype=np.float64)
    assert digest([a]) == digest([a.copy()]) == digest([np.repeat(a, 2)[::2]])
    assert re.fullmatch("[0-9a-f]{64}", digest([a]))
    others = [[a.reshape(2, 3)], [a.view(np.int64)], [a, a], [a[:3], a[3:]], [], [a + 1e-15]]
    assert len({digest(arrays) for arrays in [[a], *others]}) == 7
