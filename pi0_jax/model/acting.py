"""The form in which a policy acts: cast once, and a large network in layers with few products.

A loop over a stack of layers copies each layer's slice before it is used, and the loop over flow
steps does so again in each turn. Small matrices that multiply the same tokens XLA makes one, in
each turn, too. In a call of one row these copies are more bytes than the weights
(docs/performance.md). So a large network is held as `PerLayer`, with one matrix for q, k and v, one
for the gate and value of the action expert, and two for those of the VLM, which XLA leaves apart.
A small one keeps its stacks: its programs stay short, and its bits those of training.

Axis letters: d width, n query head, k key/value head, e head dimension, m (n + 2 k) e, f MLP width,
z key or value, gate or value.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp

from pi0_jax.model.gemma import GATING, QKV
from pi0_jax.model.layer_scan import PerLayer
from pi0_jax.model.use_dtype import dtype_to_act
from pi0_jax.types import path_name

LARGE = 2**28
"""Networks with as many parameters in the layers of both experts are held layer by layer."""


@dataclass(frozen=True)
class Held:
    """How one array that a policy acts with is made.

    Attributes:
        paths: of the leaves that it is made of.
        dtypes: what each of them is cast to.
        layer: the layer of theirs that it holds; None for whole leaves.
        join: makes one array of them.
    """

    paths: tuple[str, ...]
    dtypes: tuple[jnp.dtype, ...]
    layer: int | None = None
    join: Callable[..., jax.Array] | None = None

    def made(self, parts: Sequence[jax.Array]) -> jax.Array:
        """The array, of the parts of its leaves that belong to `layer`."""
        cast = [part.astype(dtype) for part, dtype in zip(parts, self.dtypes, strict=True)]
        return self.join(*cast) if self.join else cast[0]

    def part(self, leaf: Any) -> Any:
        """What is read of a leaf."""
        return leaf if self.layer is None else leaf[self.layer]


def acting_form(params: Any, compute_dtype: Any) -> Any:
    """A parameter tree of `Held`, in the form in which a policy acts.

    Args:
        params: the official tree, of arrays or shapes. With adapters (`model/lora.py`), which
            belong to the official matrices, it keeps its stacks.
        compute_dtype: of the network.
    """
    adapted = "lora" in params

    def one(path: Any, leaf: Any) -> Held:
        """A whole leaf."""
        name = path_name(path)
        return Held((name,), (dtype_to_act(name, leaf, compute_dtype, adapted=adapted),))

    form = jax.tree_util.tree_map_with_path(one, params)
    llm = params["PaliGemma"]["llm"]["layers"]
    size = sum(leaf.size for leaf in jax.tree.leaves(llm))
    return form if adapted or size < LARGE else _per_layer(form, params["PaliGemma"])


def is_per_layer(params: Any) -> bool:
    """Whether a tree that a policy acts with is held layer by layer."""
    return isinstance(params["PaliGemma"]["llm"]["layers"]["mlp"]["linear"], PerLayer)


def _per_layer(form: Any, shapes: Any) -> Any:
    """The form with layers apart, and with joined matrices in those of both experts."""
    paligemma = form["PaliGemma"]
    llm, img = paligemma["llm"], paligemma["img"]
    depth = jax.tree.leaves(shapes["llm"]["layers"])[0].shape[0]
    blocks = jax.tree.leaves(shapes["img"]["Transformer"]["encoderblock"])[0].shape[0]
    layers = jax.tree.map(partial(_apart, depth), _joined(llm["layers"]))
    encoder = img["Transformer"]
    encoder = encoder | {
        "encoderblock": jax.tree.map(partial(_apart, blocks), encoder["encoderblock"])
    }
    towers = {"llm": llm | {"layers": layers}, "img": img | {"Transformer": encoder}}
    return form | {"PaliGemma": towers}


def _apart(depth: int, stack: Held) -> PerLayer:
    return PerLayer(replace(stack, layer=layer) for layer in range(depth))


def _joined(layers: Any) -> Any:
    out = layers | {"attn": dict(layers["attn"])}
    for suffix in ("", "_1"):
        attention = out["attn"]
        q, kv = (attention.pop(f"{name}_einsum{suffix}")["w"] for name in ("q", "kv"))
        attention[QKV + suffix] = {"w": _join(_qkv, q, kv)}
        mlp = dict(out[f"mlp{suffix}"])
        gating = mlp.pop("gating_einsum")
        # Beyond 32 MB XLA joins nothing by itself, and apart is faster there.
        joins = (_GATE, _VALUE) if not suffix else (_gating,)
        mlp[GATING] = tuple(_join(join, gating) for join in joins)
        out[f"mlp{suffix}"] = mlp
    return out


def _join(join: Callable[..., jax.Array], *held: Held) -> Held:
    paths, dtypes = zip(*((one.paths[0], one.dtypes[0]) for one in held), strict=True)
    return Held(paths, dtypes, join=join)


_GATE, _VALUE = itemgetter(0), itemgetter(1)


def _qkv(q: jax.Array, kv: jax.Array) -> jax.Array:
    """Weights q [n, d, e] and kv [z, k, d, e] as one matrix [d, m]."""
    heads = jnp.concatenate([q, kv.reshape(-1, *kv.shape[2:])])  # [n + 2 k, d, e]
    return jnp.moveaxis(heads, 0, 1).reshape(heads.shape[1], -1)


def _gating(gating: jax.Array) -> jax.Array:
    """Weights [z, d, f] as one matrix [d, 2 f]."""
    return jnp.moveaxis(gating, 0, 1).reshape(gating.shape[1], -1)
