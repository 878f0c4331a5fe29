"""Batches without prompt columns that nobody uses."""

import dataclasses

import jax
import numpy as np

from pi0_jax.types import Batch

PROMPT_BUCKET = 16
"""Prompts are cut to a multiple of this many tokens: few lengths, so few compiled programs."""


def cut_prompts(batch: Batch) -> Batch:
    """A host batch with its prompts cut behind the longest of them, rounded up.

    The result of a loss is the same but for rounding: padding takes up no position and no weight
    of attention. Policies do not cut: their bits must not depend on who else is in the batch.

    Args:
        batch: with prompts of t tokens, padded behind the real ones.

    Returns:
        The batch with prompts of at most t tokens.
    """
    used = np.flatnonzero(np.asarray(batch.obs.prompt_mask).any(axis=0))
    longest = used[-1] + 1 if used.size else 1
    length = -(-longest // PROMPT_BUCKET) * PROMPT_BUCKET
    prompt, mask = jax.tree.map(lambda x: x[:, :length], (batch.obs.prompt, batch.obs.prompt_mask))
    obs = dataclasses.replace(batch.obs, prompt=prompt, prompt_mask=mask)
    return dataclasses.replace(batch, obs=obs)
