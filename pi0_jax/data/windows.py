"""Episodes to fixed-shape training windows; pure NumPy.

A window starts at a step that was rendered: where the policy looked, or every few steps. It holds
the H actions that were executed from there. After the end of the episode the last action is
repeated and masked out of the loss.

Where an episode has the chains of its chunks, a window is a policy call: it holds the chain, and
only the actions that were executed before the next call count.

Axis letters: n window, m chosen window, t control step, H action horizon, e action dimension,
d padded action dimension, K flow step.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np

from pi0_jax.data.branches import has_two_prompts
from pi0_jax.data.transforms import Transforms
from pi0_jax.episode import Episode, RawObs
from pi0_jax.errors import InputError
from pi0_jax.types import Batch

EXECUTED, LAST = "executed", "last"

_LONGEST = 10**6  # steps of an episode


@dataclass(frozen=True)
class WindowConfig:
    """Which windows of an episode are trained on.

    Attributes:
        stride: "executed" for one window at the start of each executed chunk; a number n for one
            at every n-th step of the episode (it must have been rendered); "last" for only the
            last window of "executed".
        skip_short: leave out windows that reach past the end of the episode, instead of masking
            the missing actions.
    """

    stride: str | int = EXECUTED
    skip_short: bool = False

    def __post_init__(self) -> None:
        """Checks the stride.

        Raises:
            InputError: it is neither "executed" nor "last" nor a positive number.
        """
        if self.stride in (EXECUTED, LAST):
            return
        # The key's default is a word, so the command line gives a number as a word too: "4".
        number = not isinstance(self.stride, bool) and str(self.stride).isdecimal()
        if not number or not 1 <= self.every <= _LONGEST:
            raise InputError(
                f"rl.windows.stride must be {EXECUTED!r}, {LAST!r} or a number of steps in "
                f"[1, {_LONGEST}], got {self.stride!r}"
            )

    @property
    def every(self) -> int:
        """Number of steps from one window to the next; 0 if windows start with executed chunks."""
        return 0 if self.stride in (EXECUTED, LAST) else int(self.stride)


ALL_EXECUTED = WindowConfig()


def cut_windows(
    episodes: Sequence[Episode],
    weights: Sequence[float],
    transforms: Transforms,
    horizon: int,
    config: WindowConfig = ALL_EXECUTED,
    tasks: Sequence[int] | None = None,
) -> Batch:
    """Cuts the windows of every episode, in order, as host arrays with leading axis n.

    Args:
        episodes: episodes of at least one executed step; none with an error.
        weights: weight w(A) per episode; all its windows get it.
        transforms: transforms of the policy that is trained.
        horizon: number of actions H per window.
        config: which windows to cut.
        tasks: a number per episode that its windows carry as `Batch.task`; None for none.

    Raises:
        InputError: no episode has a window, because all are shorter than H steps; a window of an
            episode with chains is not at a policy call.
    """
    numbers = [None] * len(episodes) if tasks is None else tasks
    parts = [
        _numbered(_windows_at(starts, episode, weight, transforms, horizon), number)
        for episode, weight, number in zip(episodes, weights, numbers, strict=True)
        if len(starts := window_starts(episode, horizon, config))
    ]
    if not parts:
        raise InputError(
            f"no episode has a whole window of {horizon} steps: turn rl.windows.skip_short off"
        )
    return concatenate(parts)


def window_starts(episode: Episode, horizon: int, config: WindowConfig) -> np.ndarray:
    """The steps at which windows of H steps start: int32[n], ascending, possibly empty.

    Raises:
        ValueError: a step that the stride asks for was not rendered.
    """
    if config.every:
        starts = np.arange(0, len(episode), config.every, dtype=np.int32)
        if missing := sorted(set(starts.tolist()) - set(episode.image_steps.tolist())):
            raise ValueError(f"stride {config.stride} needs images at the steps {missing}")
    else:
        # Of the rendered steps, those at which a chunk began.
        starts = episode.image_steps[episode.chunk_start[episode.image_steps]]
    if config.skip_short:
        starts = starts[starts + horizon <= len(episode)]
    return starts[-1:] if config.stride == LAST else starts


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Joins host batches along their leading axis n."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *batches)


def take(windows: Batch, indices: np.ndarray) -> Batch:
    """The windows at int[m] `indices`."""
    return jax.tree.map(lambda leaf: leaf[indices], windows)


def take_across(parts: Sequence[Batch], indices: np.ndarray) -> Batch:
    """Does `take(concatenate(parts), indices)` without a copy of all the parts."""
    # An index counts through all parts; `owner` is the part in which it falls, int[m].
    ends = np.cumsum([count(part) for part in parts])
    owner = np.searchsorted(ends, indices, side="right")
    firsts = np.concatenate([[0], ends[:-1]])
    taken = [
        take(part, indices[owner == number] - firsts[number]) for number, part in enumerate(parts)
    ]
    # `taken` is ordered by part. Sorting the sort order gives the way back to the asked order.
    by_owner = np.argsort(owner, kind="stable")
    return take(concatenate(taken), np.argsort(by_owner))


def count(windows: Batch) -> int:
    """Number of windows n."""
    return len(windows.weight)


def _windows_at(
    starts: np.ndarray, episode: Episode, weight: float, transforms: Transforms, horizon: int
) -> Batch:
    """The windows of one episode that start at int32[n] `starts`."""
    looks = np.searchsorted(episode.image_steps, starts)  # int[n], rows of `episode.images`
    observations = [
        RawObs(episode.images[look], episode.state[start], episode.prompt)
        for look, start in zip(looks, starts, strict=True)
    ]
    actions, mask = chunks(episode.actions, starts, horizon)
    # One advantage per episode: every window of it gets the same weight, [n].
    weights = np.full(len(starts), weight, np.float32)
    windows = assemble(observations, actions, mask, weights, transforms)
    return windows if episode.chain is None else _with_chains(windows, starts, episode)


def _numbered(windows: Batch, task: int | None) -> Batch:
    """The windows with the number of their task; as they are with None."""
    return (
        windows if task is None else replace(windows, task=np.full(count(windows), task, np.int32))
    )


def _with_chains(windows: Batch, starts: np.ndarray, episode: Episode) -> Batch:
    """The windows that start at the policy calls int[n] `starts`, with their chains."""
    assert episode.chain is not None and episode.chain_log_prob is not None
    calls = np.flatnonzero(episode.chunk_start)
    if not np.isin(starts, calls).all():
        raise InputError(
            "a chain belongs to the start of an executed chunk, but rl.windows.stride asks for "
            f"windows elsewhere; set it to {EXECUTED!r}"
        )
    which = np.searchsorted(calls, starts)  # int[n], the number of the call
    # Actions behind the next call are another chain's: [n, H].
    ends = np.append(calls, len(episode))[which + 1]
    executed = starts[:, None] + np.arange(windows.action_mask.shape[1]) < ends[:, None]
    return replace(
        windows,
        action_mask=windows.action_mask & executed,
        chain=episode.chain[which],
        chain_log_prob=episode.chain_log_prob[which],
    )


def chunks(actions: np.ndarray, starts: np.ndarray, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Takes the H actions from each of the steps `starts`.

    Args:
        actions: float[t, e], the actions of one episode.
        starts: int[n], steps in [0, t).
        horizon: number of actions H.

    Returns:
        Actions float[n, H, e], with the last one repeated after the end of the episode, and a mask
        bool[n, H] that is False there.
    """
    steps = starts[:, None] + np.arange(horizon)  # [n, H]
    return actions[np.minimum(steps, len(actions) - 1)], steps < len(actions)


def assemble(
    observations: Sequence[RawObs],
    actions: np.ndarray,
    action_mask: np.ndarray,
    weights: np.ndarray,
    transforms: Transforms,
) -> Batch:
    """Puts windows into the form of the network's input.

    Args:
        observations: n observations, at the start of each window.
        actions: float[n, H, e], in the robot's units.
        action_mask: bool[n, H], False after the end of the episode.
        weights: float32[n].
        transforms: transforms of the policy that is trained.
    """
    # A second prompt is stored only if the branches differ by their prompt.
    uncond: tuple[np.ndarray | None, np.ndarray | None] = None, None
    if has_two_prompts(transforms.branch_mode):
        uncond = transforms.prompts(observations, positive=False)
    return Batch(
        obs=transforms.observe(observations),
        actions=transforms.actions(actions, np.stack([obs.state for obs in observations])),
        action_mask=action_mask,
        weight=weights,
        uncond_prompt=uncond[0],
        uncond_prompt_mask=uncond[1],
    )
