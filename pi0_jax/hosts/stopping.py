"""A wish to stop that reaches one host, made that of all."""

from collections.abc import Callable

from pi0_jax import interruption
from pi0_jax.hosts import talk


def asked_anywhere(asked: Callable[[], bool]) -> bool:
    """Whether a stop was asked for on any host; then it is asked for here too.

    Args:
        asked: from the `interruption.deferred` block that this is called in.
    """
    if stops := talk.agree(asked()):
        interruption.ask()
    return stops
