"""Losses that ours are compared with: one whole pass per guidance branch, and joint attention."""

from typing import Any

import jax
import jax.numpy as jnp

from pi0_jax.model import flow, gemma, mask
from pi0_jax.model.layer_scan import scan_layers
from pi0_jax.model.pi0 import POSITIVE, UNCONDITIONAL, Pi0
from pi0_jax.training.step import LossAndMetrics, Params, SampledLoss
from pi0_jax.training.supervised import NoiseAndTime, noise_and_time_sampler
from pi0_jax.types import Batch, Observation


def two_pass_loss(model: Pi0, alpha: float) -> SampledLoss:
    """The loss of objective `cfg` with one prefix pass per branch and one noise/time sample.

    The second pass takes the batch in reverse order. Otherwise the compiler would see that the
    prefixes are equal, and compute only one.
    """

    def branch(params: Params, batch: Batch, drawn: NoiseAndTime, branch_id: int) -> jax.Array:
        actions, noise, time = drawn
        obs = batch.obs
        cache = model.encode_prefix(params, obs)
        x_t = flow.interpolate(actions, noise, time)
        ids = jnp.full(time.shape, branch_id)
        v = model.velocity(params, cache, jnp.asarray(obs.state), x_t, time, ids)
        return flow.matching_error(v, actions, noise)

    def loss(params: Params, batch: Batch, drawn: NoiseAndTime) -> LossAndMetrics:
        real, weight = jnp.asarray(batch.action_mask), jnp.asarray(batch.weight)
        cond = flow.masked_mean(branch(params, batch, drawn, POSITIVE), real, weight)
        turned, turned_drawn = jax.tree.map(lambda leaf: leaf[::-1], (batch, drawn))
        error = branch(params, turned, turned_drawn, UNCONDITIONAL)
        uncond = flow.masked_mean(error, jnp.asarray(turned.action_mask))
        return cond + alpha * uncond, {}

    return SampledLoss(noise_and_time_sampler(1), loss)


def joint_loss(model: Pi0) -> SampledLoss:
    """Plain flow matching as openpi computes it: one attention over prefix and suffix.

    In every layer the tokens of both experts are in one product with one mask, and the last layer
    is computed for the prefix too, although nothing reads it. Same parameters, same value.
    """

    def loss(params: Params, batch: Batch, drawn: NoiseAndTime) -> LossAndMetrics:
        actions, noise, time = drawn
        v = _joint_velocity(model, params, batch.obs, flow.interpolate(*drawn), time)
        error = flow.matching_error(v, actions, noise)
        return flow.masked_mean(error, jnp.asarray(batch.action_mask)), {}

    return SampledLoss(noise_and_time_sampler(1), loss)


def _joint_velocity(
    model: Pi0, params: Params, obs: Observation, x_t: jax.Array, time: jax.Array
) -> jax.Array:
    """Like `Pi0.velocity` for one suffix row: float32[b, 1, H, d]."""
    config, llm = model.config, params["PaliGemma"]["llm"]
    experts = [gemma.DecoderLayer(config, sizes) for sizes in (config.vlm, config.action)]
    prefix, valid = model.embed_prefix(params, obs)
    suffix = model.embed_suffix(params, jnp.asarray(obs.state), x_t, time, None)[:, 0]
    length = suffix.shape[1]
    places = mask.positions(valid), mask.suffix_positions(valid, length)
    allowed = _joint_mask(valid, mask.suffix_mask(config.action_horizon))

    def layer(tokens: Any, weights: Any) -> tuple[Any, None]:
        parts = [
            expert.apply({"params": w}, x, at, method="qkv")[:3]  # without the gate of a pi0.5
            for expert, w, x, at in zip(experts, weights, tokens, places, strict=True)
        ]
        # [b, p, ...] and [b, s, ...] -> [b, p + s, ...]
        q, k, v = (jnp.concatenate(both, axis=1) for both in zip(*parts, strict=True))
        seen = gemma.attend(q[:, None], (k, v, allowed))[:, 0]
        halves = jnp.split(seen, [valid.shape[1]], axis=1)
        return tuple(
            expert.apply({"params": w}, x, half, method="finish")
            for expert, w, x, half in zip(experts, weights, tokens, halves, strict=True)
        ), None

    stack = tuple(gemma.expert_layers(llm, expert) for expert in (0, 1))
    (_, x), _ = scan_layers(layer, (prefix, suffix.astype(model.dtype)), stack, config.depth)
    last = gemma.final_norm(llm, 1, x)[:, None, -config.action_horizon :].astype(jnp.float32)
    out = params["action_out_proj"]
    return last @ out["kernel"] + out["bias"]


def _joint_mask(valid: jax.Array, own: jax.Array) -> jax.Array:
    """bool[b, p + s, p + s]: all tokens see the prefix, suffix tokens also the suffix."""
    batch, p = valid.shape
    s = len(own)
    seen = jnp.broadcast_to(valid[:, None], (batch, p + s, p))
    rows = jnp.concatenate([jnp.zeros((p, s), bool), own])
    return jnp.concatenate([seen, jnp.broadcast_to(rows, (batch, p + s, s))], axis=2)
