"""Batches without prompt columns that nobody uses."""

import dataclasses

import jax
import numpy as np

from pi0_jax.types import Batch

PROMPT_BUCKET = 16
"""Prompts are cut to a multiple of this many tokens: few lengths, so few compiled programs."""


def trim_prompts(batch: Batch) -> Batch:
    """A host batch with its prompts cut behind the longest of them, rounded up.

    The result of a loss is the same but for rounding: padding takes up no position and no weight
    of attention. Policies do not cut: their bits must not depend on who else is in the batch.

    Args:
        batch: with prompts of t tokens, padded behind the real ones.

    Returns:
        The batch with prompts of at most t tokens.
    """
    masks = jax.tree.leaves((batch.obs.prompt_mask, batch.uncond_prompt_mask))
    used = np.flatnonzero(np.concatenate(masks).any(axis=0))
    longest = used[-1] + 1 if used.size else 1
    length = -(-longest // PROMPT_BUCKET) * PROMPT_BUCKET
    prompts = (
        (batch.obs.prompt, batch.obs.prompt_mask),
        (batch.uncond_prompt, batch.uncond_prompt_mask),
    )
    own, uncond = jax.tree.map(lambda x: x[:, :length], prompts)
    obs = dataclasses.replace(batch.obs, prompt=own[0], prompt_mask=own[1])
    return dataclasses.replace(
        batch, obs=obs, uncond_prompt=uncond[0], uncond_prompt_mask=uncond[1]
    )
