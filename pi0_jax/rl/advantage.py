"""Outcomes to weights: leave-one-out advantages, and what is done to them; pure NumPy.

    rewards -> advantage -> normalise -> clip -> negatives -> hard -> rescale -> weight w(A)

Axis letters: k rollout of one baseline (a group, or the whole iteration), g group, n episode.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from pi0_jax.errors import InputError, check_choices
from pi0_jax.ranges import check_ranges

NORMALIZATIONS = ("none", "standard", "robust")
CLIPPINGS = ("asymmetric", "symmetric", "none")
NEGATIVES = ("clamp", "softplus", "abs", "signed")
RESCALES = ("positive_mean", "none")

_NORMAL_MAD = 1.4826  # standard deviation of a normal distribution over its MAD
_NO_SPREAD = 1e-6  # of advantages that differ by rounding alone
_WARNINGS = {
    "abs": "rl.advantage.negatives is 'abs': failures are trained on as if they were good",
    "signed": "rl.advantage.negatives is 'signed': a loss with negative weights is unbounded below",
}


@dataclass(frozen=True)
class AdvantageConfig:
    """How the outcomes of an iteration become the weights of its episodes.

    Attributes:
        success_weight: give every success weight 1 and every failure weight 0, whatever its
            group: filtered behaviour cloning. The other keys then have no effect.
        all_rollouts_baseline: leave one out of all rollouts of the iteration's accepted groups,
            instead of out of those of its own group (RIPT-VLA's `rloo_over_all_rollouts`).
        normalization: "none"; "standard", (A - mean) / deviation; "robust", (A - median) /
            (1.4826 median absolute deviation): the more frequent outcome becomes 0, and if half
            of the rollouts or more have it, nothing is divided. Statistics are those of the
            rollouts that share a baseline, never of several baselines.
        clipping: "asymmetric", to [0, a_max]; "symmetric", to [-a_max, a_max]; "none".
        a_max: bound of the clipping.
        negatives: the weight of a negative advantage A: "clamp", 0; "softplus", log(1 + e^A),
            also for positive A; "abs", |A|; "signed", A itself. The last two are for ablations:
            a run with them starts with a warning.
        hard: weight 1 for every positive advantage (CFGRL's 1[A > 0]).
        rescale: "positive_mean", mean 1 over the positive weights, so that the learning rate
            keeps its meaning: the mean positive advantage is 1 - success rate, and without this
            the step shrinks as the policy improves. "none" leaves them.
    """

    success_weight: bool = False
    all_rollouts_baseline: bool = False
    normalization: str = "none"
    clipping: str = "asymmetric"
    a_max: Annotated[float, "[0, 1e6]"] = 5.0
    negatives: str = "clamp"
    hard: bool = False
    rescale: str = "positive_mean"

    def __post_init__(self) -> None:
        """Rejects unknown names, values out of range, and options that another one disables.

        Raises:
            InputError: named field.
        """
        choices = {"normalization": NORMALIZATIONS, "clipping": CLIPPINGS}
        choices |= {"negatives": NEGATIVES, "rescale": RESCALES}
        check_choices("rl.advantage", self, choices)
        check_ranges("rl.advantage", self)
        if self.negatives != "clamp" and self.clipping == "asymmetric":
            raise InputError(
                f"rl.advantage.negatives {self.negatives!r} finds no negative advantage after "
                "clipping 'asymmetric'; set rl.advantage.clipping to 'symmetric' or 'none'"
            )
        if self.negatives != "clamp" and self.hard:
            raise InputError(
                "rl.advantage.hard weighs positive advantages 1 and all others 0; it needs "
                f"rl.advantage.negatives 'clamp', got {self.negatives!r}"
            )

    @property
    def warning(self) -> str | None:
        """A warning to log before training with these settings; None where none is due."""
        return None if self.success_weight else _WARNINGS.get(self.negatives)


def episode_weights(
    rewards: Sequence[np.ndarray], config: AdvantageConfig
) -> tuple[np.ndarray, int]:
    """The weight of every episode, and how many had no finite advantage.

    An advantage that is NaN or infinite gets weight 0 and does not change the other weights.

    Args:
        rewards: float32[k] of each group, one entry per rollout; at least one group. A list and
            no array float32[g, k], because a group without its errors is shorter.
        config: how advantages become weights.

    Returns:
        float32[n] over all groups in order, and the count.
    """
    if config.success_weight:
        advantages = np.concatenate(rewards)  # [n]
    else:
        # Each part is centred by itself: a difficult group is not compared with an easy one.
        baselines = [np.concatenate(rewards)] if config.all_rollouts_baseline else rewards
        parts = [normalize(leave_one_out(part), config.normalization) for part in baselines]
        advantages = np.concatenate(parts)  # [n]
    # To 0 before the transforms: one NaN would reach every weight through the mean in `rescale`.
    spoiled = ~np.isfinite(advantages)
    advantages = np.where(spoiled, np.float32(0), advantages)
    weights = advantages if config.success_weight else _weights(advantages, config)  # [n]
    # And after them: softplus gives log 2, not 0, for an advantage of 0.
    weights = np.where(spoiled, np.float32(0), weights)
    return weights, int(spoiled.sum())


def leave_one_out(rewards: np.ndarray) -> np.ndarray:
    """A_i = r_i - mean of the other rewards (RLOO, arXiv 2402.14740; RIPT, arXiv 2505.17016).

    For m successes out of K: success (K - m) / (K - 1), failure -m / (K - 1). They sum to 0.

    Args:
        rewards: float32[k], k >= 2. One that is not finite is left out of the others' baseline.

    Returns:
        float32[k], NaN where there is no finite reward or no finite other one.
    """
    # In float64, rounded to float32 once at the end.
    rewards = np.asarray(rewards, np.float64)
    if len(rewards) < 2:
        raise ValueError(f"a leave-one-out baseline needs at least 2 rollouts, got {len(rewards)}")
    known = np.isfinite(rewards)  # [k]
    advantages = np.full(len(rewards), np.nan)
    if known.sum() > 1:
        finite = rewards[known]  # [k] of finite rewards only
        # Huge rewards overflow to infinity; `episode_weights` counts them as not finite.
        with np.errstate(over="ignore", invalid="ignore"):
            # The mean of all rewards but one's own, for all k at once.
            baseline = (finite.sum() - finite) / (len(finite) - 1)
            advantages[known] = finite - baseline
    with np.errstate(over="ignore"):
        return advantages.astype(np.float32)


def normalize(advantages: np.ndarray, how: str) -> np.ndarray:
    """Subtracts a centre and divides by a spread, unless it is 0; only finite entries count.

    Args:
        advantages: float32[k], those that share a baseline.
        how: one of `NORMALIZATIONS`.

    Returns:
        float32[k].
    """
    finite = advantages[np.isfinite(advantages)].astype(np.float64)
    if how == "none" or not len(finite):
        return advantages
    # Statistics of one baseline, in float64: [k] -> scalars.
    if how == "standard":
        centre, spread = finite.mean(), finite.std()
    else:
        centre = np.median(finite)
        spread = _NORMAL_MAD * np.median(np.abs(finite - centre))
    return ((advantages - centre) / (spread if spread > _NO_SPREAD else 1.0)).astype(np.float32)


def clip(advantages: np.ndarray, how: str, a_max: float) -> np.ndarray:
    """Clips to [0, a_max], to [-a_max, a_max], or not at all; `how` is one of `CLIPPINGS`."""
    if how == "none":
        return advantages
    return np.clip(advantages, 0.0 if how == "asymmetric" else -a_max, a_max)


def transform_negatives(advantages: np.ndarray, how: str) -> np.ndarray:
    """Turns clipped advantages into weights, float32[n]; `how` is one of `NEGATIVES`."""
    if how == "clamp":
        return np.maximum(advantages, 0.0)
    if how == "softplus":
        # log(e^0 + e^A), which does not overflow for large A.
        return np.logaddexp(0.0, advantages)
    return np.abs(advantages) if how == "abs" else advantages


def rescale(weights: np.ndarray) -> np.ndarray:
    """Weights float32[n] with mean 1 over the positive ones; without any they stay the same."""
    positive = weights[weights > 0]  # [n] -> only the positive ones
    return weights / positive.mean() if len(positive) else weights


def _weights(advantages: np.ndarray, config: AdvantageConfig) -> np.ndarray:
    """Weights float32[n] of finite advantages float32[n]."""
    clipped = clip(advantages, config.clipping, config.a_max)
    weights = transform_negatives(clipped, config.negatives).astype(np.float32)
    # CFGRL's indicator 1[A > 0]: how much better than the baseline no longer counts.
    if config.hard:
        weights = (weights > 0).astype(np.float32)
    return rescale(weights) if config.rescale == "positive_mean" else weights
