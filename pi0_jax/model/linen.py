"""Calling a Linen module as a plain function of its parameters."""

from typing import Any

import flax.linen as nn


def apply(module: nn.Module, params: Any, *args: Any, method: str | None = None) -> Any:
    """Applies a module to a parameter tree, as `module.apply` does.

    Args:
        module: a module whose only variables are parameters.
        params: its parameter tree.
        args: arguments of the method.
        method: name of the method; None for `__call__`.
    """
    # A function of its own because of its type: Linen declares a union with None.
    return module.apply({"params": params}, *args, method=method)
