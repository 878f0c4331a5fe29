"""Cuts off prompt columns that are padding in every window of a batch.

Axis letters: b batch, t prompt token.
"""

import dataclasses

import jax
import numpy as np

from pi0_jax.types import Batch

PROMPT_BUCKET = 16
"""Prompts are cut to a multiple of this many tokens: few lengths mean few compiled programs."""


def trim_prompts(batch: Batch) -> Batch:
    """A host batch with its prompts cut after the longest of them, rounded up.

    The value of a loss changes by rounding only: padding gets no position and no attention.
    Policies do not cut, because their result must not depend on the other rows of a batch.

    Args:
        batch: host batch with prompts int32[b, t], padded after the real tokens.

    Returns:
        The batch with prompts of at most t tokens.
    """
    # Both prompts get one length, because losses join them into one array.
    masks = jax.tree.leaves((batch.obs.prompt_mask, batch.uncond_prompt_mask))
    # bool[b, t], or bool[2b, t] with two prompts, to the indices of columns that a row uses.
    used = np.flatnonzero(np.concatenate(masks).any(axis=0))
    # At least one column, so that the prompt axis is never empty.
    longest = used[-1] + 1 if used.size else 1
    # Rounded up; a slice stops at t tokens if this is more.
    length = -(-longest // PROMPT_BUCKET) * PROMPT_BUCKET
    prompts = (
        (batch.obs.prompt, batch.obs.prompt_mask),
        (batch.uncond_prompt, batch.uncond_prompt_mask),
    )
    # [b, t] -> [b, length]; None, where there is one prompt, is an empty tree and stays None.
    own, uncond = jax.tree.map(lambda x: x[:, :length], prompts)
    obs = dataclasses.replace(batch.obs, prompt=own[0], prompt_mask=own[1])
    return dataclasses.replace(
        batch, obs=obs, uncond_prompt=uncond[0], uncond_prompt_mask=uncond[1]
    )
