"""How the bench scripts write a success rate: in per cent, with its 95 % Wilson interval."""

from pi0_jax.run.success import wilson


def rate_text(successes: int, episodes: int) -> str:
    """Such as "76.0 [69.6, 81.4]"; "-" without an episode."""
    if not episodes:
        return "-"
    low, high = wilson(successes, episodes)
    return f"{100 * successes / episodes:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
