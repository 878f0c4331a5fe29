"""What guidance leads away from: v_ref + s (v - v_ref).

"unconditional"  the other branch of the policy itself (`data/branches.py`)
"base"           other parameters at their own guidance 1, such as the policy that RL started from;
                 guidance then continues what training has changed (autoguidance, arXiv 2406.02507)
"none"           nothing, and guidance 1 is the only scale

Axis letters: b batch, r suffix row, H action horizon, d padded action dimension.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from pi0_jax.errors import InputError, check_choices
from pi0_jax.io.tree_check import leaves_by_path
from pi0_jax.model import flow
from pi0_jax.model.inpainting import OldChunk, integrate
from pi0_jax.model.pi0 import POSITIVE, Pi0, prefix_params
from pi0_jax.types import Observation, PrefixCache

UNCONDITIONAL, BASE, NONE = "unconditional", "base", "none"
KINDS = (UNCONDITIONAL, BASE, NONE)


@dataclass(frozen=True)
class Reference:
    """What a policy's guidance leads away from.

    Attributes:
        kind: one of `KINDS`.
        params: for "base", the base's parameter tree; leaves that it has in common with the
            policy are the policy's own arrays. None for the others.
    """

    kind: str = UNCONDITIONAL
    params: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Checks that a base has parameters, and nothing else has.

        Raises:
            InputError: no such kind, or parameters of the wrong one.
        """
        check_choices("reference", self, {"kind": KINDS})
        if (self.kind == BASE) != (self.params is not None):
            raise InputError(f"reference {self.kind!r}: expected parameters for {BASE!r} alone")

    def check_scale(self, guidance: float) -> None:
        """Checks that there is something to lead away from.

        Raises:
            InputError: a scale other than 1 without a reference.
        """
        if self.kind == NONE and guidance != 1.0:
            raise InputError(
                f"guidance {guidance:g} needs a reference, and this policy has 'none': choose "
                f"{UNCONDITIONAL!r} or {BASE!r}, or guidance 1"
            )


def kind_of(reference: str | Path) -> str:
    """The kind that a word names; of a path, which is that of a base, "base"."""
    return reference if isinstance(reference, str) and reference in KINDS else BASE


def kinds_of(reference: str) -> tuple[str, ...]:
    """The kinds that words with a plus between them name, each once; of a path, "base"."""
    words = tuple(dict.fromkeys(reference.split("+")))
    return words if all(word in KINDS for word in words) else (BASE,)


def shares_prefix(params: Any, base: Any) -> bool:
    """Whether images and prompt give both the same prefix cache: what it is made of is one array.

    Args:
        params: parameter tree.
        base: parameter tree; common leaves are the same arrays.
    """
    ours, theirs = (leaves_by_path(prefix_params(tree)) for tree in (params, base))
    return ours.keys() == theirs.keys() and all(ours[name] is theirs[name] for name in ours)


def base_text(params: Any, base: Any) -> str:
    """One line for the log: how much of the base is held and computed beside the policy."""
    ours, theirs = leaves_by_path(params), leaves_by_path(base)
    own = sum(leaf is not ours.get(name) for name, leaf in theirs.items())
    shared = shares_prefix(params, base)
    passes = "one prefix pass" if shared else "two prefix passes, because the VLMs differ"
    return f"guidance from a base, {own} of whose {len(theirs)} leaves are its own: {passes}"


STATIC = ("model", "shared_prefix", "two_prompts")
"""Names of the static arguments of `sample_from_base`."""


# Beside `policy.sample`, not in it: the program of a policy without a base stays as it is.
@partial(jax.jit, static_argnames=STATIC)
def sample_from_base(
    model: Pi0,
    params: Any,
    base: Any,
    obs: Observation,
    noise: jax.Array,
    num_flow_steps: jax.Array | int,
    guidance: jax.Array | float,
    old: OldChunk | None = None,
    *,
    shared_prefix: bool,
    two_prompts: bool,
) -> jax.Array:
    """Draws one normalised action chunk per observation, guided away from a base.

    Args:
        model: the network, of both.
        params: parameter tree of the policy.
        base: parameter tree of the base.
        obs: observations with leading axis b and, with `two_prompts`, the positive prompts.
        noise: float32[b, H, d], x at t = 1.
        num_flow_steps: steps from noise to actions.
        guidance: scale s of v_base + s (v - v_base).
        old: what the chunks continue; None for nothing.
        shared_prefix: both have the same prefix cache, which is then computed once.
        two_prompts: branches differ by their prompt, so the condition embedding has no part.

    Returns:
        float32[b, H, d].
    """
    velocity = velocity_from_base(
        model, params, base, obs, guidance, shared_prefix=shared_prefix, two_prompts=two_prompts
    )
    return integrate(velocity, noise, num_flow_steps, old)


def velocity_from_base(
    model: Pi0,
    params: Any,
    base: Any,
    obs: Observation,
    guidance: jax.Array | float,
    *,
    shared_prefix: bool,
    two_prompts: bool,
) -> flow.Velocity:
    """The velocity of chunks of these observations; arguments as `sample_from_base`.

    Returns:
        (x_t [b, 1, H, d], time [b, 1]) -> [b, 1, H, d].
    """
    cache = model.encode_prefix(params, obs)
    base_cache = cache if shared_prefix else model.encode_prefix(base, obs)
    # Both at their own guidance 1, which is the positive branch: int32[b, 1].
    ids = None if two_prompts else jnp.full((len(obs.state), 1), POSITIVE)
    state = jnp.asarray(obs.state)

    def velocity(x_t: jax.Array, time: jax.Array) -> jax.Array:
        """Velocity of x_t [b, 1, H, d] at time [b, 1], mixed from the two: [b, 1, H, d]."""

        def of(tree: Any, prefix: PrefixCache) -> jax.Array:
            return model.velocity(tree, prefix, state, x_t, time, ids)

        return flow.guide(of(base, base_cache), of(params, cache), guidance)

    return velocity
