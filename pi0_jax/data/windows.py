"""Episodes to fixed-shape training windows; pure NumPy.

A window starts at a step that was rendered: where the policy looked, or every few steps. It holds
the H actions that were executed from there; behind the end of the episode the last action is
repeated and masked out of the loss.

Axis letters: n window, H action horizon.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from pi0_jax.data.branches import has_two_prompts
from pi0_jax.data.transforms import Transforms
from pi0_jax.episode import Episode, RawObs
from pi0_jax.errors import InputError
from pi0_jax.types import Batch

EXECUTED, LAST = "executed", "last"


@dataclass(frozen=True)
class WindowConfig:
    """Which windows of an episode are trained on.

    Attributes:
        stride: "executed", one where each executed chunk began; a number n, one at every n-th
            step of the episode (it must have been rendered); "last", the last of "executed".
        skip_short: leave out windows that reach behind the end of the episode, instead of
            masking what is missing.
    """

    stride: str | int = EXECUTED
    skip_short: bool = False

    def __post_init__(self) -> None:
        """Checks the stride.

        Raises:
            InputError: it is neither a word that is known nor a positive number.
        """
        if self.stride in (EXECUTED, LAST):
            return
        # A key that holds a word by default takes a number as a word from the command line.
        if isinstance(self.stride, bool) or not str(self.stride).isdecimal() or self.every < 1:
            raise InputError(
                f"rl.windows.stride must be {EXECUTED!r}, {LAST!r} or a number of steps from 1, "
                f"got {self.stride!r}"
            )

    @property
    def every(self) -> int:
        """Steps from one window to the next; 0 where executed chunks decide."""
        return 0 if self.stride in (EXECUTED, LAST) else int(self.stride)


ALL_EXECUTED = WindowConfig()


def cut_windows(
    episodes: Sequence[Episode],
    weights: Sequence[float],
    transforms: Transforms,
    horizon: int,
    config: WindowConfig = ALL_EXECUTED,
) -> Batch:
    """The windows of every episode, in order, as host arrays with leading axis n.

    Args:
        episodes: at least one executed step each; none with an error.
        weights: w(A) of each episode, inherited by its windows.
        transforms: of the policy that is trained.
        horizon: H.
        config: which windows.

    Raises:
        InputError: no episode has a window, because all are shorter than H steps.
    """
    parts = [
        _windows_at(starts, episode, weight, transforms, horizon)
        for episode, weight in zip(episodes, weights, strict=True)
        if len(starts := window_starts(episode, horizon, config))
    ]
    if not parts:
        raise InputError(
            f"no episode has a whole window of {horizon} steps: turn rl.windows.skip_short off"
        )
    return concatenate(parts)


def window_starts(episode: Episode, horizon: int, config: WindowConfig) -> np.ndarray:
    """The steps at which windows of H steps start, int32[n], ascending, possibly none.

    Raises:
        ValueError: a step that the stride asks for was not rendered.
    """
    if config.every:
        starts = np.arange(0, len(episode), config.every, dtype=np.int32)
        if missing := sorted(set(starts.tolist()) - set(episode.image_steps.tolist())):
            raise ValueError(f"stride {config.stride} needs images at the steps {missing}")
    else:
        starts = episode.image_steps[episode.chunk_start[episode.image_steps]]
    if config.skip_short:
        starts = starts[starts + horizon <= len(episode)]
    return starts[-1:] if config.stride == LAST else starts


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Joins host batches along their first axis."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *batches)


def take(windows: Batch, indices: np.ndarray) -> Batch:
    """The windows at int[m] `indices`."""
    return jax.tree.map(lambda leaf: leaf[indices], windows)


def take_across(parts: Sequence[Batch], indices: np.ndarray) -> Batch:
    """As `take(concatenate(parts), indices)`, without a copy of all the parts."""
    ends = np.cumsum([count(part) for part in parts])
    owner = np.searchsorted(ends, indices, side="right")
    firsts = np.concatenate([[0], ends[:-1]])
    taken = [
        take(part, indices[owner == number] - firsts[number]) for number, part in enumerate(parts)
    ]
    by_owner = np.argsort(owner, kind="stable")
    return take(concatenate(taken), np.argsort(by_owner))


def count(windows: Batch) -> int:
    """Number of windows n."""
    return len(windows.weight)


def _windows_at(
    starts: np.ndarray, episode: Episode, weight: float, transforms: Transforms, horizon: int
) -> Batch:
    """The windows of one episode that start at int32[n] `starts`."""
    looks = np.searchsorted(episode.image_steps, starts)
    observations = [
        RawObs(episode.images[look], episode.state[start], episode.prompt)
        for look, start in zip(looks, starts, strict=True)
    ]
    actions, mask = chunks(episode.actions, starts, horizon)
    weights = np.full(len(starts), weight, np.float32)
    return assemble(observations, actions, mask, weights, transforms)


def chunks(actions: np.ndarray, starts: np.ndarray, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """The H actions from each of int[n] `starts`; behind the end, the last one and no mask.

    Args:
        actions: float[t, e] of one episode.
        starts: steps in [0, t).
        horizon: H.

    Returns:
        float[n, H, e], bool[n, H].
    """
    steps = starts[:, None] + np.arange(horizon)
    return actions[np.minimum(steps, len(actions) - 1)], steps < len(actions)


def assemble(
    observations: Sequence[RawObs],
    actions: np.ndarray,
    action_mask: np.ndarray,
    weights: np.ndarray,
    transforms: Transforms,
) -> Batch:
    """Windows as the network wants them.

    Args:
        observations: n, at the start of each window.
        actions: float[n, H, e], in the robot's units.
        action_mask: bool[n, H], False behind the end of the episode.
        weights: float32[n].
        transforms: of the policy that is trained.
    """
    uncond: tuple[np.ndarray | None, np.ndarray | None] = None, None
    if has_two_prompts(transforms.branch_mode):
        uncond = transforms.prompts([obs.prompt for obs in observations], positive=False)
    return Batch(
        obs=transforms.observe(observations),
        actions=transforms.actions(actions, np.stack([obs.state for obs in observations])),
        action_mask=action_mask,
        weight=weights,
        uncond_prompt=uncond[0],
        uncond_prompt_mask=uncond[1],
    )
