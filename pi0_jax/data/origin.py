"""What statistics were computed from: it stands in their file, and travels with a policy.

A file whose numbers are not those that were computed is refused, and so is one of other data,
another chunk length or other relative actions than those of a training.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pi0_jax.data.action_space import ActionSpace, mask_text
from pi0_jax.episode import digest
from pi0_jax.errors import InputError


@dataclass(frozen=True)
class Origin:
    """The data and the settings of some statistics.

    Attributes:
        data: digest of all states and actions (`LeRobotFolder.digest`), joined by "+" where there
            were several folders.
        episodes: how many there were.
        frames: number of control steps.
        horizon: actions per chunk.
        delta_mask: relative actions, as "6,-1".
        adapt_to_pi: whose conversion of ALOHA's joints surrounds the network.
        std_floor: smallest standard deviation of an action.
    """

    data: str
    episodes: int
    frames: int
    horizon: int
    delta_mask: str
    adapt_to_pi: str
    std_floor: float

    def check(self, other: "Origin", path: Path) -> None:
        """Checks that statistics belong to a training.

        Args:
            other: what that training would compute them from.
            path: the file of the statistics.

        Raises:
            InputError: something differs; the message names it.
        """
        ours, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        for name, value in ours.items():
            if value != theirs[name]:
                shown = (str(one)[:12] for one in (value, theirs[name]))
                raise InputError(
                    f"{path}: statistics with {name} {' and this training has '.join(shown)}; "
                    "compute them anew with `python -m pi0_jax.data.stats`"
                )


def origin_of(
    digests: Sequence[str],
    motions: Sequence[tuple[np.ndarray, np.ndarray]],
    space: ActionSpace,
    horizon: int,
    std_floor: float,
) -> Origin:
    """The origin of statistics; arguments as in `chunk_stats.motion_stats`.

    Args:
        digests: of the folders.
        motions: per episode, raw state float[t, s] and actions float[t, e].
        space: the policy's action space.
        horizon: number of steps H per chunk.
        std_floor: smallest standard deviation of an action.
    """
    return Origin(
        data="+".join(digests),
        episodes=len(motions),
        frames=sum(len(actions) for _, actions in motions),
        horizon=horizon,
        delta_mask=mask_text(space.delta_mask),
        adapt_to_pi=space.adapt_to_pi,
        std_floor=std_floor,
    )


def digest_of(parts: Sequence[np.ndarray | None]) -> str:
    """Digest of the numbers of some statistics, in this order; absent ones are left out."""
    return digest([np.asarray(part, np.float64) for part in parts if part is not None])
