"""The sampler compiled for least memory, which a large policy needs where it acts on a CPU."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from pi0_jax.model.acting import is_per_layer

# XLA's CPU compiler of jax 0.10 multiplies bfloat16 weights as float32 (that of 0.12 as they are).
# Its order for many cores widens all of them at once, 10.4 GB beside the 7.3 GB of the published
# pi0, that for little memory layer by layer (1.3 GB), with the same numbers. Small networks have no
# need of it.
_LEAST_MEMORY = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}


def lean(program: Callable[..., Any], static: tuple[str, ...], params: Any) -> Callable[..., Any]:
    """A jitted function, or the same compiled for least memory where that is the limit.

    Args:
        program: made by `jax.jit`.
        static: names of its static arguments.
        params: parameter tree that it acts with, as `Replicas` holds it.
    """
    if jax.default_backend() != "cpu" or not is_per_layer(params):
        return program
    return _compiled_for_memory(program, static)


@functools.cache
def _compiled_for_memory(program: Any, static: tuple[str, ...]) -> Callable[..., Any]:
    return jax.jit(
        program.__wrapped__, static_argnames=static, compiler_options=dict(_LEAST_MEMORY)
    )
