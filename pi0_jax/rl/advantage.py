"""Leave-one-out advantages and the weights made of them; pure NumPy.

Axis letters: k rollout of a group, n episode or window.
"""

import numpy as np


def leave_one_out(rewards: np.ndarray) -> np.ndarray:
    """A_i = r_i - mean of the other rewards (RLOO, arXiv 2402.14740; RIPT, arXiv 2505.17016).

    For m successes out of K: success (K - m) / (K - 1), failure -m / (K - 1). They sum to 0.

    Args:
        rewards: float32[k], k >= 2.

    Returns:
        float32[k].
    """
    rewards = np.asarray(rewards, np.float64)
    k = len(rewards)
    if k < 2:
        raise ValueError(f"a leave-one-out baseline needs at least 2 rollouts, got {k}")
    baseline = (rewards.sum() - rewards) / (k - 1)
    return (rewards - baseline).astype(np.float32)


def positive_weights(advantages: np.ndarray, a_max: float, hard: bool) -> np.ndarray:
    """w(A): 0 for A <= 0, else min(A, a_max), or 1 if `hard`.

    Args:
        advantages: float32[n].
        a_max: upper bound.
        hard: forget how large a positive advantage is (CFGRL's 1[A > 0]).

    Returns:
        float32[n], never negative.
    """
    clipped = np.clip(advantages, 0.0, a_max)
    return (clipped > 0).astype(np.float32) if hard else clipped.astype(np.float32)


def rescale(weights: np.ndarray) -> np.ndarray:
    """Weights with mean 1 over the positive ones, so that the learning rate keeps its meaning.

    The mean positive advantage is 1 - p: without this the step shrinks as the policy improves.
    All-zero weights stay zero.
    """
    positive = weights[weights > 0]
    return weights / positive.mean() if len(positive) else weights
