"""Episodes as rows of a LeRobot folder, with what rollouts know besides.

Axis letters: t control step.
"""

from collections.abc import Sequence

import numpy as np

from pi0_jax.data.lerobot.write import EpisodeRows
from pi0_jax.episode import Episode


def rows(episode: Episode, advantage: float) -> EpisodeRows:
    """The rows of an episode that has a picture before its first step.

    A step without a picture of its own shows the newest one, as the policy knew no newer one.

    Args:
        episode: without an error, at least one step long.
        advantage: of the episode.
    """
    length = len(episode)
    steps = np.arange(length)
    newest = np.searchsorted(episode.image_steps, steps, side="right") - 1
    return EpisodeRows(
        prompt=episode.prompt,
        state=episode.state,
        actions=episode.actions,
        pictures=(episode.images[look] for look in newest),
        beside={
            "success": np.full(length, episode.success),
            "advantages": np.full(length, advantage, np.float32),
            # lerobot's name for actions behind the end of an episode, of which a row is none.
            "action_is_pad": np.zeros(length, bool),
            "init_hash": [episode.init_hash] * length,
            "policy_step": np.full(length, episode.optimizer_step, np.int64),
            "picture_is_new": np.isin(steps, episode.image_steps),
        },
    )


def advantages(episodes: Sequence[Episode]) -> list[float]:
    """Per episode, its reward less the mean reward of the others from its initial state.

    Where no other began there, of the others of its task; 0 where there is none either.

    Args:
        episodes: those that were collected together.
    """
    return [_advantage(index, episodes) for index in range(len(episodes))]


def _advantage(index: int, episodes: Sequence[Episode]) -> float:
    one = episodes[index]
    others = [other for i, other in enumerate(episodes) if i != index and other.task == one.task]
    near = [other for other in others if other.init_hash == one.init_hash]
    rewards = [other.reward for other in near or others]
    return one.reward - float(np.mean(rewards)) if rewards else 0.0
