"""Which leaves every use casts to the compute dtype, so that they may as well be held in it.

A layer's matrices and biases are cast where they are used; its norms scale and shift in float32.
Outside of the layers the head of the image tower is cast, and everything else is used as float32.
"""

import re
from typing import Any

import jax.numpy as jnp

_CAST = r"PaliGemma/(llm/layers|img/Transformer/encoderblock|img/head)/.*"


def is_cast(path: str) -> bool:
    """Whether a layer casts this leaf of its own to the compute dtype."""
    return not path.endswith("scale") and "LayerNorm" not in path


def dtype_to_act(path: str, leaf: Any, compute_dtype: Any, *, adapted: bool) -> jnp.dtype:
    """The narrowest dtype in which a leaf may be held without changing a bit of an action.

    At full size a policy so held has 7.5 GB in place of 12.95.

    Args:
        path: slash-joined path in the whole parameter tree.
        leaf: array or shape.
        compute_dtype: of the network.
        adapted: whether the tree has adapters (`model/lora.py`): then a layer of the language
            model casts the sum of two leaves, and each must be whole.
    """
    compute_dtype = jnp.dtype(compute_dtype)
    cast = re.fullmatch(_CAST, path) and is_cast(path)
    whole = adapted and path.startswith("PaliGemma/llm/")
    narrower = compute_dtype.itemsize < leaf.dtype.itemsize
    return compute_dtype if cast and narrower and not whole else leaf.dtype
