"""The network stage by stage, so that a mismatch points at a part of it.

Axis letters: b batch, c camera, H action horizon, d padded action dimension, p prefix token,
s suffix token (the state and H actions; in a pi0.5 the actions), w width of an expert.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pi0_jax.errors import InputError
from pi0_jax.model import flow, mask
from pi0_jax.model.config import Pi0Config
from pi0_jax.model.pi0 import Pi0
from pi0_jax.types import Observation

CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
"""openpi's cameras in the order of their tokens."""

# Beside the images: names of openpi's Observation, and the inputs of flow matching.
_NEEDED = ("state", "tokenized_prompt", "tokenized_prompt_mask", "noise", "time", "actions")

Arrays = dict[str, Any]
"""Named arrays, on the host or on the device."""


def inputs(golden: Arrays) -> tuple[Observation, Arrays]:
    """The observation of a golden file, and its actions, noise and time.

    Cameras come in openpi's order; others follow in the order of the file.

    Args:
        golden: the arrays of the file, with "image/<camera>" and "image_mask/<camera>".

    Raises:
        InputError: an input is missing; the message names it.
    """
    found = [key.removeprefix("image/") for key in golden if key.startswith("image/")]
    names = [name for name in CAMERAS if name in found]
    names += [name for name in found if name not in CAMERAS]
    wanted = [*_NEEDED, *(f"image_mask/{name}" for name in names)]
    missing = [key for key in wanted if key not in golden] + ["image/<camera>"] * (not names)
    if missing:
        raise InputError(f"the golden file lacks {', '.join(missing)}")
    obs = Observation(
        # [b, h, w, 3] per camera -> [b, c, h, w, 3]
        images=np.stack([golden[f"image/{name}"] for name in names], axis=1),
        image_mask=np.stack([golden[f"image_mask/{name}"] for name in names], axis=1),
        state=golden["state"],
        prompt=golden["tokenized_prompt"],
        prompt_mask=golden["tokenized_prompt_mask"],
    )
    return obs, {key: golden[key] for key in ("actions", "noise", "time")}


@partial(jax.jit, static_argnames="config")
def forward(config: Pi0Config, params: Any, obs: Observation, flow_in: Arrays) -> Arrays:
    """Every intermediate value of one pass.

    Args:
        config: architecture.
        params: parameter tree.
        obs: b observations.
        flow_in: actions and noise float32[b, H, d], time float32[b].

    Returns:
        Arrays under their names in the golden file: prefix_tokens [b, p, w], prefix_mask
        bool[b, p], positions int32[b, p + s], suffix_tokens and suffix_out [b, s, w], v_t and
        v_at_t1 float32[b, H, d], loss float32[b, H], mean_loss a scalar; of a pi0.5 also
        adarms_cond [b, w].
    """
    # The reference has one suffix row per observation: [b, H, d] -> [b, 1, H, d]
    model, t = Pi0(config), flow_in["time"][:, None]
    actions, noise = (flow_in[name][:, None] for name in ("actions", "noise"))
    x_t = flow.interpolate(actions, noise, t)
    tokens, prefix_mask = model.embed_prefix(params, obs)
    cache = model.encode_prefix(params, obs)
    suffix = model.embed_suffix(params, jnp.asarray(obs.state), x_t, t, None)
    clock = model.clock(params, t)
    v_t = model.velocity(params, cache, jnp.asarray(obs.state), x_t, t)
    loss = flow.matching_error(v_t, actions, noise)
    # The reference computes prefix and suffix in one sequence, so positions go through.
    own = mask.suffix_positions(prefix_mask, suffix.shape[2])
    return {
        "prefix_tokens": tokens,
        "prefix_mask": prefix_mask,
        "positions": jnp.concatenate([mask.positions(prefix_mask), own], axis=1),
        "suffix_tokens": suffix[:, 0],
        "suffix_out": model.decode_suffix(params, cache, suffix, clock)[:, 0],
        "v_t": v_t[:, 0],
        "v_at_t1": model.velocity(params, cache, jnp.asarray(obs.state), noise, jnp.ones_like(t))[
            :, 0
        ],
        "loss": loss[:, 0],
        "mean_loss": loss.mean(),
        **({} if clock is None else {"adarms_cond": clock[:, 0]}),
    }


@partial(jax.jit, static_argnames="config")
def sample(
    config: Pi0Config, params: Any, obs: Observation, noise: jax.Array, num_flow_steps: int
) -> jax.Array:
    """Action chunks float32[b, H, d] by Euler's method, from noise float32[b, H, d]."""
    model = Pi0(config)
    cache, state = model.encode_prefix(params, obs), jnp.asarray(obs.state)
    return flow.euler(
        lambda x, t: model.velocity(params, cache, state, x, t), noise[:, None], num_flow_steps
    )[:, 0]


@partial(jax.jit, static_argnames="config")
def gradient(config: Pi0Config, params: Any, obs: Observation, flow_in: Arrays) -> Any:
    """Gradient of the mean loss with respect to every parameter."""
    model, t = Pi0(config), flow_in["time"][:, None]
    actions, noise = (flow_in[name][:, None] for name in ("actions", "noise"))

    def loss(params: Any) -> jax.Array:
        """Mean over batch, horizon and all d dimensions, as openpi reports it."""
        cache = model.encode_prefix(params, obs)
        x_t = flow.interpolate(actions, noise, t)
        v_t = model.velocity(params, cache, jnp.asarray(obs.state), x_t, t)
        return flow.matching_error(v_t, actions, noise).mean()

    return jax.grad(loss)(params)


def global_norm(tree: Any) -> float:
    """L2 norm over all leaves."""
    return float(jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree))))
