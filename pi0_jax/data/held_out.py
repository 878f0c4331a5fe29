"""Episodes that a fine-tuning does not learn from, and the steps of them on which it is judged.

Axis letters: n window, H action horizon, e action dimension.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from pi0_jax.data.lerobot.recording import Recording
from pi0_jax.data.mixture import Mixture
from pi0_jax.data.windows import chunks
from pi0_jax.episode import RawObs
from pi0_jax.errors import InputError
from pi0_jax.ranges import check_ranges
from pi0_jax.types import FLOW_STEPS


@dataclass(frozen=True)
class HeldOutConfig:
    """On what a policy is judged while it is fine-tuned.

    Attributes:
        share: of the episodes of each folder that are held out, at least one.
        windows: steps of them at which chunks are predicted and compared, evenly spread.
        num_flow_steps: flow steps per chunk.
        shown: episodes of which the report shows pictures and curves.
    """

    share: Annotated[float, "(0, 0.5]"] = 0.05
    windows: Annotated[int, "[1, 1e5]"] = 64
    num_flow_steps: Annotated[int, "[1, 1000]"] = FLOW_STEPS
    shown: Annotated[int, "[0, 100]"] = 3

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            InputError: named field.
        """
        check_ranges("held_out", self)


@dataclass(frozen=True)
class JudgedSteps:
    """Steps of held-out episodes, with what the robot did from there on.

    Attributes:
        observations: n observations.
        actions: float32[n, H, e], in the robot's units.
        mask: bool[n, H], False after the end of the episode.
    """

    observations: Sequence[RawObs]
    actions: np.ndarray
    mask: np.ndarray


def split(mixture: Mixture, share: float, rng: np.random.Generator) -> tuple[Mixture, Mixture]:
    """What is learnt, and what is held out: an equal share of every folder.

    Args:
        mixture: all episodes.
        share: of the episodes to hold out.
        rng: draws them.

    Raises:
        InputError: a folder has one episode only.
    """
    learnt, held = [], []
    for folder in mixture.folders:
        count = len(folder.recordings)
        if count < 2:
            raise InputError(
                f"{folder.path}: expected at least 2 episodes, one to learn from and one that is "
                f"held out, got {count}"
            )
        out = {*rng.permutation(count)[: max(1, round(share * count))].tolist()}
        for parts, kept in ((learnt, False), (held, True)):
            own = tuple(r for i, r in enumerate(folder.recordings) if (i in out) is kept)
            parts.append(replace(folder, recordings=own))
    return replace(mixture, folders=tuple(learnt)), replace(mixture, folders=tuple(held))


def judged_steps(
    recordings: Sequence[Recording], horizon: int, count: int, image_size: int
) -> JudgedSteps:
    """Evenly spread steps of some episodes; reads their pictures.

    Args:
        recordings: the episodes.
        horizon: actions H per chunk.
        count: most steps n.
        image_size: side [px] of the network's images.

    Raises:
        InputError: a picture cannot be read.
    """
    # Where the pictures are an earlier step's, nothing can be predicted.
    allowed = [one.starts(horizon, skip_short=False) for one in recordings]
    ends = np.cumsum([len(one) for one in allowed])
    # The middle of each of n equal parts: neither only beginnings nor only ends of episodes.
    places = (np.arange(min(count, ends[-1])) + 0.5) * (ends[-1] / min(count, ends[-1]))
    owners = np.searchsorted(ends, places.astype(int), side="right")
    within = places.astype(int) - np.concatenate([[0], ends[:-1]])[owners]
    steps = np.array([allowed[o][i] for o, i in zip(owners, within, strict=True)])
    found = [recordings[owner] for owner in owners]
    pairs = zip(found, steps.tolist(), strict=True)
    cut = [chunks(one.actions, np.array([step]), horizon) for one, step in pairs]
    return JudgedSteps(
        [
            one.observation(step, image_size)
            for one, step in zip(found, steps.tolist(), strict=True)
        ],
        np.concatenate([actions for actions, _ in cut]),
        np.concatenate([mask for _, mask in cut]),
    )
