"""Who may attend to whom, and at which position: the only place that decides it.

Axis letters: b batch, c camera, t prompt token, p prefix token, s query and u key of the suffix.
"""

import jax
import jax.numpy as jnp

from pi0_jax.types import Observation


def prefix_mask(obs: Observation, tokens_per_image: int) -> jax.Array:
    """bool[b, p]: images in camera order, then the prompt; False for padding.

    Every real prefix token sees every real prefix token (one bidirectional block). Padding tokens
    compute garbage as queries, but no one reads it, so it is enough to mask them as keys.
    """
    images = jnp.repeat(obs.image_mask, tokens_per_image, axis=1)  # [b, c tokens_per_image]
    return jnp.concatenate([images, obs.prompt_mask], axis=1)


def positions(mask: jax.Array) -> jax.Array:
    """int32[b, p]: padding takes up no position, so an absent camera shifts nothing.

    mask       1 1 0 0 1 1
    position   0 1 1 1 2 3
    """
    return jnp.cumsum(mask, axis=1) - 1


def suffix_positions(prefix: jax.Array, length: int) -> jax.Array:
    """int32[b, s]: positions of the suffix, which follow that of the last real prefix token."""
    return jnp.sum(prefix, axis=1, keepdims=True) + jnp.arange(length)


def suffix_mask(horizon: int, states: int = 1) -> jax.Array:
    """bool[s, u] within the suffix: `states` state tokens, then `horizon` action tokens.

    The state is computed without looking at the noisy actions, which see everything (openpi's
    prefix-LM mask with ar = 1, 1, 0, 0, ...). For three actions, row = query, column = key:

              state a0 a1 a2
        state   1   0  0  0
        a0      1   1  1  1
        a1      1   1  1  1
        a2      1   1  1  1

    Every suffix token also sees every real prefix token; the prefix never sees the suffix. In
    pi0.5, which has no state token, all actions see each other.
    """
    # Block 0 is the state, block 1 all actions; a token sees its own block and earlier ones.
    block = (jnp.arange(states + horizon) >= states).astype(jnp.int32)
    return block[None, :] <= block[:, None]
