"""Low-rank adapters (LoRA, arXiv 2106.09685) as a tree beside the parameters.

Every matrix W [..., m, o] of both experts' attention and MLP gets a [..., m, rank] and
b [..., rank, o]; the network reads W + a b. `b` starts at zero, so a fresh adapter changes nothing.
Every index of a leading axis (layer, head, gate) has an adapter of its own. openpi's are the same
but for `attn_vec_einsum`, where both factors sum over the heads. The scale alpha / rank is 1.

The tree is stored in the parameters under `lora` and mirrors `PaliGemma/llm`:
`lora/layers/attn/q_einsum_1/w/{a,b}`. A layer is adapted inside the loop over depth, so adapted
weights exist for one layer at a time.
"""

from typing import Any

import jax
import jax.numpy as jnp

from pi0_jax.model.draw import flat_key

Params = dict[str, Any]

RANK = 16
_INIT_STD = 0.01
_WITHOUT = "norm"


def with_adapters(params: Params, rng: jax.Array, rank: int = RANK) -> Params:
    """The parameters with fresh float32 adapters under `lora`.

    Args:
        params: the official tree.
        rng: key.
        rank: inner dimension of every adapter.
    """
    layers = params["PaliGemma"]["llm"]["layers"]
    matrices = {name: part for name, part in layers.items() if _WITHOUT not in name}
    leaves, structure = jax.tree.flatten(matrices)
    keys = jax.random.split(flat_key(rng), len(leaves))
    adapters = [_fresh(leaf, key, rank) for leaf, key in zip(leaves, keys, strict=True)]
    return params | {"lora": {"layers": jax.tree.unflatten(structure, adapters)}}


def adapt(weights: Params, adapters: Params) -> Params:
    """Adds every adapter to the weight at the same place of the tree; {} adds none."""
    return {
        name: _adapt_part(part, adapters[name]) if name in adapters else part
        for name, part in weights.items()
    }


def merge(params: Params) -> Params:
    """Adds the adapters to the weights and drops `lora`; a tree without it is returned as it is."""
    if "lora" not in params:
        return params
    paligemma = params["PaliGemma"]
    llm = adapt(paligemma["llm"], params["lora"])
    rest = {name: part for name, part in params.items() if name != "lora"}
    return rest | {"PaliGemma": paligemma | {"llm": llm}}


def _adapt_part(part: Any, adapter: Params) -> Any:
    if isinstance(part, dict):
        return adapt(part, adapter)
    # [..., m, rank] times [..., rank, o], rounded to the dtype of the weight that it is added to.
    return part + (adapter["a"] @ adapter["b"]).astype(part.dtype)


def _fresh(weight: Any, rng: jax.Array, rank: int) -> Params:
    *lead, fan_in, fan_out = weight.shape
    # b is zero and a is not: the first gradient changes b, and so the output.
    a = _INIT_STD * jax.random.normal(rng, (*lead, fan_in, rank))
    return {"a": a, "b": jnp.zeros((*lead, rank, fan_out))}
