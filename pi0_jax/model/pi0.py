"""pi0: a prefix of images and prompt, and the velocity field of the action chunk that follows.

    one observation:

    prefix   image tokens | prompt tokens                expert 0, once per observation
                  |
                  | keys and values of every layer (`PrefixCache`)
                  v
    suffix   row 0   state | a0 a1 ... aH-1              expert 1, once per flow step
             row 1   state | a0 a1 ... aH-1              e.g. the other branch of guidance
             ...                                         or another noise and time sample
             row r-1 state | a0 a1 ... aH-1

A suffix row reads the whole prefix and its own tokens, never another row. Whether the actions are
wanted (`branch_ids`) enters in the action tokens a0 ... alone, never in the prefix. So both
branches of guidance, and several noise and time samples, are rows r over one prefix cache.

A pi0.5 (`config.pi05`) differs in the suffix alone. It has no state token, its action tokens do not
hold the flow time, and instead the time enters every norm of expert 1 as a `clock`.

Axis letters: b batch, c camera, p prefix token, r suffix row, s suffix token (1 + H; H in a pi0.5),
H horizon, d padded action dimension, w width of the action expert, l layer.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from pi0_jax.errors import InputError
from pi0_jax.model import gemma, lora, mask, siglip
from pi0_jax.model.config import ExpertConfig, Pi0Config
from pi0_jax.model.draw import flat_key
from pi0_jax.model.layer_scan import REMATS, scan_layers
from pi0_jax.model.linen import apply
from pi0_jax.model.mesh import gathered
from pi0_jax.types import Array, Observation, PrefixCache

Params = dict[str, Any]

COND_EMBED = "cond_embed"
"""The parameter that RL adds to the official tree; it usually has a learning rate of its own."""

UNCONDITIONAL, POSITIVE = 0, 1
"""Rows of `cond_embed`: any behaviour, and behaviour of successful episodes."""


@dataclass(frozen=True)
class Pi0:
    """The network as pure functions of a parameter tree.

    The tree is the official one, leaf for leaf (`PaliGemma/llm`, `PaliGemma/img`, `state_proj`,
    `action_in_proj`, `action_time_mlp_in`, `action_time_mlp_out`, `action_out_proj`; in a pi0.5
    `time_mlp_in` and `time_mlp_out`, and no `state_proj`), plus `cond_embed` float32[2, w], zero at
    first: a converted checkpoint acts as it did. A tree that also has `lora` is read through these
    adapters.

    Attributes:
        config: sizes.
        remat: which values a backward pass computes again (`model/layer_scan.py`).
        attention: "einsum", or "fused" for the kernel of `jax.nn.dot_product_attention`.
    """

    config: Pi0Config
    remat: str = "none"
    attention: str = "einsum"

    def __post_init__(self) -> None:
        """Checks `remat` and `attention`.

        Raises:
            InputError: a choice that does not exist.
        """
        for name, known in (("remat", REMATS), ("attention", tuple(gemma.ATTENTIONS))):
            if getattr(self, name) not in known:
                raise InputError(f"{name} must be one of {known}, got {getattr(self, name)!r}")

    @property
    def dtype(self) -> jnp.dtype:
        """Compute dtype of both towers."""
        return jnp.dtype(self.config.compute_dtype)

    def init(self, rng: jax.Array) -> Params:
        """Random float32 parameters; `cond_embed` is zero."""
        c = self.config
        llm_rng, img_rng, *rngs = jax.random.split(flat_key(rng), 7)
        paligemma = {
            "llm": gemma.init(c, llm_rng),
            "img": siglip.init(c.vision, c.vlm.width, img_rng),
        }
        # strict=False: a pi0.5 has one layer less than there are keys.
        layers = {
            name: _init_dense(key, *shape)
            for key, (name, shape) in zip(rngs, _dense_shapes(c).items(), strict=False)
        }
        return {"PaliGemma": paligemma, **layers, COND_EMBED: jnp.zeros((2, c.action.width))}

    def shapes(self) -> Params:
        """Shapes and dtypes of the parameters; none is made."""
        # A tree of its own for each caller.
        return jax.tree.map(lambda leaf: leaf, _shapes(self.config))

    def embed_prefix(self, params: Params, obs: Observation) -> tuple[jax.Array, jax.Array]:
        """Tokens [b, p, vlm width] of images and prompt, and their mask bool[b, p]."""
        images = scale_images(obs.images)  # [b, c, h, w, 3]
        batch, cameras = images.shape[:2]
        flat = images.reshape(-1, *images.shape[2:])  # [b c, h, w, 3]: the tower knows no camera
        tower = params["PaliGemma"]["img"]
        seen = siglip.encode(tower, self.config.vision, flat, self.dtype, self.remat)
        seen = seen.reshape(batch, cameras * seen.shape[1], seen.shape[2])
        prompt = gemma.embed_tokens(params["PaliGemma"]["llm"], obs.prompt, self.dtype)
        tokens = jnp.concatenate([seen, prompt], axis=1)  # [b, p, vlm width]
        return tokens, mask.prefix_mask(obs, self.config.vision.num_tokens)

    def encode_prefix(self, params: Params, obs: Observation) -> PrefixCache:
        """Keys and values of every layer for the suffix to attend to."""
        x, valid = self.embed_prefix(params, obs)
        layer = self._layer(self.config.vlm)

        def full(carry: Any, at: Any) -> tuple[Any, tuple[jax.Array, jax.Array]]:
            """A whole layer over x [b, p, d], and its keys and values."""
            x, positions, valid = carry
            p = gathered(lora.adapt(*at), self.dtype)
            # The prefix is one row: q [b, 1, p, n, e] over keys [b, p, k, e].
            q, k, v, _ = apply(layer, p, x, positions, method="qkv")
            attended = self._attend(q[:, None], (k, v, valid[:, None]))[:, 0]
            return (apply(layer, p, x, attended, method="finish"), positions, valid), (k, v)

        def last(carry: Any, at: Any) -> tuple[Any, tuple[jax.Array, jax.Array]]:
            """The keys and values of the last layer."""
            # Nothing reads the last layer's output: its queries and MLP are never computed.
            x, positions, _ = carry
            p = gathered(lora.adapt(*at), self.dtype)
            return carry, apply(layer, p, x, positions, method="key_value")

        # Positions and mask travel in the carry: bodies may close over no array (`scan_layers`).
        carry, stack = (x, mask.positions(valid), valid), _stack(params, expert=0)
        # k, v [l, b, p, k, e]
        _, (k, v) = scan_layers(full, carry, stack, self.config.depth, last, self.remat)
        return PrefixCache(k=k, v=v, mask=valid)

    def embed_suffix(
        self,
        params: Params,
        state: jax.Array,
        x_t: jax.Array,
        time: jax.Array,
        branch_ids: jax.Array | None,
    ) -> jax.Array:
        """State and action tokens, float32[b, r, s, w]; arguments as in `velocity`."""
        rows = x_t.shape[1]
        action = _dense(params["action_in_proj"], x_t)  # [b, r, H, w]
        if branch_ids is not None:
            # The only place where the branch enters: [b, r, 1, w], equal for all H tokens.
            action += params[COND_EMBED].astype(jnp.float32)[branch_ids][:, :, None]
        if self.config.pi05:
            return action
        clock = jnp.broadcast_to(time_embedding(time, action.shape[-1])[:, :, None], action.shape)
        # Action and time are mixed per token, [b, r, H, 2 w] to [b, r, H, w].
        hidden = _dense(params["action_time_mlp_in"], jnp.concatenate([action, clock], axis=-1))
        action = _dense(params["action_time_mlp_out"], jax.nn.swish(hidden))
        # The state is the first token of every row: [b, r, 1 + H, w].
        state_token = _dense(params["state_proj"], state)[:, None, None]  # [b, 1, 1, w]
        return jnp.concatenate([jnp.repeat(state_token, rows, axis=1), action], axis=2)

    def clock(self, params: Params, time: jax.Array) -> jax.Array | None:
        """What the flow time [b, r] tells the norms of a pi0.5: float32[b, r, w]; None in a pi0."""
        if not self.config.pi05:
            return None
        clock = time_embedding(time, self.config.action.width)
        for name in ("time_mlp_in", "time_mlp_out"):
            clock = jax.nn.swish(_dense(params[name], clock))
        return clock

    def decode_suffix(
        self,
        params: Params,
        cache: PrefixCache,
        tokens: jax.Array,
        clock: jax.Array | None = None,
    ) -> jax.Array:
        """Suffix tokens [b, r, s, w] through the action expert and its final norm.

        Args:
            params: parameter tree.
            cache: keys and values of the observations' prefixes.
            tokens: from `embed_suffix`.
            clock: from `clock`.
        """
        batch, rows, length = tokens.shape[:3]
        # All rows count on from the prefix, each as if it were alone: int32[b, r, s].
        positions = mask.suffix_positions(cache.mask, length)[:, None]
        positions = jnp.broadcast_to(positions, (batch, rows, length))
        horizon = self.config.action_horizon
        own_mask = mask.suffix_mask(horizon, states=length - horizon)
        layer = self._layer(self.config.action)

        def step(x: jax.Array, at: Any) -> tuple[jax.Array, None]:
            """A layer of the action expert over x [b, r, s, w]."""
            weights, prefix_k, prefix_v = at
            p = gathered(lora.adapt(*weights), self.dtype)
            q, k, v, gate = apply(layer, p, x, positions, clock, method="qkv")
            prefix = prefix_k, prefix_v, cache.mask[:, None]  # [b, p, k, e] twice, [b, 1, p]
            attended = self._attend(q, prefix, (k, v, own_mask))  # [b, r, s, n, e]
            return apply(layer, p, x, attended, gate, clock, method="finish"), None

        stack = _stack(params, expert=1), cache.k, cache.v
        depth = self.config.depth
        x, _ = scan_layers(step, tokens.astype(self.dtype), stack, depth, remat=self.remat)
        return gemma.final_norm(params["PaliGemma"]["llm"], 1, x, clock)

    @property
    def _attend(self) -> Callable[..., jax.Array]:
        return gemma.ATTENTIONS[self.attention]

    def _layer(self, expert: ExpertConfig) -> gemma.DecoderLayer:
        return gemma.DecoderLayer(self.config, expert)

    def velocity(
        self,
        params: Params,
        cache: PrefixCache,
        state: jax.Array,
        x_t: jax.Array,
        time: jax.Array,
        branch_ids: jax.Array | None = None,
    ) -> jax.Array:
        """The velocity d x_t / d t of noisy action chunks.

        Args:
            params: parameter tree.
            cache: keys and values of the observations' prefixes.
            state: float32[b, d], normalised; not read in a pi0.5.
            x_t: float32[b, r, H, d].
            time: float32[b, r] in [0, 1]; 1 is pure noise.
            branch_ids: int32[b, r], each UNCONDITIONAL or POSITIVE; None leaves the embedding
                out, as in a policy that was trained without outcomes.

        Returns:
            float32[b, r, H, d].
        """
        tokens = self.embed_suffix(params, state, x_t, time, branch_ids)
        decoded = self.decode_suffix(params, cache, tokens, self.clock(params, time))
        # Without the state token: [b, r, H, w].
        actions = decoded[:, :, -self.config.action_horizon :].astype(jnp.float32)
        return _dense(params["action_out_proj"], actions)


def prefix_params(params: Params) -> Params:
    """The part of a parameter tree that a prefix cache is made of: image tower, words, expert 0."""
    paligemma = params["PaliGemma"]
    words, layers = paligemma["llm"]["embedder"], _stack(params, expert=0)
    return {"img": paligemma["img"], "embedder": words, "layers": layers}


def _stack(params: Params, expert: int) -> tuple[Params, Params]:
    """Layers of one expert, and their adapters; {} in a tree without adapters."""
    layers = gemma.expert_layers(params["PaliGemma"]["llm"], expert)
    return layers, gemma.expert_layers(params["lora"], expert) if "lora" in params else {}


def scale_images(images: Array) -> jax.Array:
    """uint8 to float32 in [-1, 1]; float32 passes through unchanged."""
    pixels = jnp.asarray(images)
    return pixels.astype(jnp.float32) / 255.0 * 2.0 - 1.0 if pixels.dtype == jnp.uint8 else pixels


def time_embedding(time: jax.Array, width: int) -> jax.Array:
    """Sinusoids of flow time: [sin, cos] with periods from 4e-3 to 4, geometric.

    Args:
        time: float32[...].
        width: even.

    Returns:
        float32[..., width] (openpi `posemb_sincos`; phases reach 1571 rad, in float32).
    """
    shortest, longest = 4e-3, 4.0
    fraction = jnp.linspace(0.0, 1.0, width // 2)
    period = shortest * (longest / shortest) ** fraction
    phase = time[..., None] * (1.0 / period * 2 * math.pi)  # [..., width/2]
    return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=-1)


def _dense(layer: Params, x: jax.Array) -> jax.Array:
    """Returns x W + b in float32, for parameters of any dtype."""
    whole = gathered(layer, jnp.dtype("float32"))
    return x @ whole["kernel"].astype(jnp.float32) + whole["bias"].astype(jnp.float32)


def _dense_shapes(c: Pi0Config) -> dict[str, tuple[int, int]]:
    """Fan-in and width of every dense layer around the action expert."""
    dims, width = c.action_dim, c.action.width
    if c.pi05:
        return {
            "action_in_proj": (dims, width),
            "time_mlp_in": (width, width),
            "time_mlp_out": (width, width),
            "action_out_proj": (width, dims),
        }
    return {
        "state_proj": (dims, width),
        "action_in_proj": (dims, width),
        "action_time_mlp_in": (2 * width, width),
        "action_time_mlp_out": (width, width),
        "action_out_proj": (width, dims),
    }


# Asked for at every policy that is opened, and a tenth of a second to trace.
@lru_cache(maxsize=16)
def _shapes(config: Pi0Config) -> Params:
    return jax.eval_shape(Pi0(config).init, jax.random.key(0))


def _init_dense(rng: jax.Array, fan_in: int, width: int) -> Params:
    kernel = jax.random.normal(rng, (fan_in, width)) * fan_in**-0.5
    return {"kernel": kernel, "bias": jnp.zeros(width)}
