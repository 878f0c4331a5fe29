"""Calling a Linen module as a plain function of its parameters."""

from typing import Any

import flax.linen as nn


def apply(module: nn.Module, params: Any, *args: Any, method: str | None = None) -> Any:
    """`module.apply`, typed as what it is for the caller: Linen's own type is a union with None.

    Args:
        module: without variables other than parameters.
        params: its parameter tree.
        args: of the method.
        method: name; None for `__call__`.
    """
    return module.apply({"params": params}, *args, method=method)
