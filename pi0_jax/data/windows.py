"""Episodes to fixed-shape training windows; pure NumPy.

A window starts wherever an image was rendered: at chunk boundaries of a rollout, every few steps
of a demonstration. It holds the H actions that were executed from there; behind the end of the
episode the last action is repeated and masked out of the loss.

Axis letters: n window, H action horizon.
"""

from collections.abc import Sequence

import jax
import numpy as np

from pi0_jax.data.transforms import Transforms
from pi0_jax.episode import Episode, RawObs
from pi0_jax.types import Batch


def cut_windows(
    episodes: Sequence[Episode], weights: Sequence[float], transforms: Transforms, horizon: int
) -> Batch:
    """Every window of every episode, in order, as host arrays with leading axis n.

    Args:
        episodes: at least one executed step each; none with an error.
        weights: w(A) of each episode, inherited by its windows.
        transforms: of the policy that is trained.
        horizon: H.
    """
    parts = [
        _episode_windows(episode, weight, transforms, horizon)
        for episode, weight in zip(episodes, weights, strict=True)
    ]
    return concatenate(parts)


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Joins host batches along their first axis."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *batches)


def take(windows: Batch, indices: np.ndarray) -> Batch:
    """The windows at int[m] `indices`."""
    return jax.tree.map(lambda leaf: leaf[indices], windows)


def count(windows: Batch) -> int:
    """Number of windows n."""
    return len(windows.weight)


def _episode_windows(
    episode: Episode, weight: float, transforms: Transforms, horizon: int
) -> Batch:
    starts = episode.image_steps
    observations = [
        RawObs(images, episode.state[start], episode.prompt)
        for images, start in zip(episode.images, starts, strict=True)
    ]
    steps = starts[:, None] + np.arange(horizon)  # [n, H]
    actions = episode.actions[np.minimum(steps, len(episode) - 1)]
    return Batch(
        obs=transforms.observe(observations),
        actions=transforms.actions(actions, episode.state[starts]),
        action_mask=steps < len(episode),
        weight=np.full(len(starts), weight, np.float32),
    )
