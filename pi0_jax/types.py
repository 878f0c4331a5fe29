"""Device values: the model's inputs, and what its prefix passes on to its suffix; flow steps.

Axis letters: b batch, c camera, h w image, d padded state/action dimension, t prompt token,
p prefix token, H action horizon, K flow steps, a robot's action dimension, l layer, k key/value
head, e head dimension.
"""

from typing import Any

import flax.struct
import jax
import numpy as np

Array = jax.Array | np.ndarray
"""Host array before `device_put`, device array after."""

FLOW_STEPS = 10
"""Flow steps that every published policy is sampled with."""


@flax.struct.dataclass
class Observation:
    """A batch of observations, ready for the network.

    A camera that the robot does not have is left out of axis c: it costs nothing and changes
    nothing.

    Attributes:
        images: uint8[b, c, h, w, 3] (scaled to [-1, 1] inside jit), or float32 already scaled.
        image_mask: bool[b, c], False for a camera that is missing in this sample.
        state: float32[b, d], normalised and zero-padded.
        prompt: int32[b, t], token ids, padded with 0.
        prompt_mask: bool[b, t], True for real tokens.
    """

    images: Array
    image_mask: Array
    state: Array
    prompt: Array
    prompt_mask: Array


@flax.struct.dataclass
class Batch:
    """Training windows: an observation, the actions that followed, and their weight in the loss.

    Attributes:
        obs: the observation at the start of each window.
        actions: float32[b, H, d], normalised and zero-padded.
        action_mask: bool[b, H], False after the end of the episode; in a window with a chain, after
            the last action that was executed of that chunk.
        weight: float32[b], weight w(A) of the conditional branch; 0 for windows that are not
            positive. The unconditional branch counts every window once.
        uncond_prompt: int32[b, t], the prompt of the unconditional branch if it differs from that
            of `obs`; None if both branches have the same prompt.
        uncond_prompt_mask: bool[b, t] or None, as `Observation.prompt_mask`.
        chain: float32[b, K + 1, H, d], from noise to chunk; None where the chunks were not drawn by
            a stochastic sampler (`model/flow_sde.py`), or no loss reads it.
        chain_log_prob: float32[b, K, H, a] or None, log density of each step's result under the
            policy that acted.
        task: int32[b], number of each window's task among the tasks of its loop; None in a batch
            that is trained on, and where windows are not drawn by task.
    """

    obs: Observation
    actions: Array
    action_mask: Array
    weight: Array
    uncond_prompt: Array | None = None
    uncond_prompt_mask: Array | None = None
    chain: Array | None = None
    chain_log_prob: Array | None = None
    task: Array | None = None


@flax.struct.dataclass
class PrefixCache:
    """Keys and values of images and prompt, computed once per observation.

    Attributes:
        k: [l, b, p, k, e], rotated keys.
        v: [l, b, p, k, e], values.
        mask: bool[b, p], which prefix tokens are real.
    """

    k: jax.Array
    v: jax.Array
    mask: jax.Array


def path_name(path: tuple[Any, ...]) -> str:
    """A tree path spelled as in official checkpoints, such as PaliGemma/llm/final_norm/scale."""
    return jax.tree_util.keystr(path, simple=True, separator="/")
