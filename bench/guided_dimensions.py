"""eval.py with guidance in some action dimensions alone: which of them helps, which harms?

python bench/guided_dimensions.py DIMENSIONS ARGUMENTS OF EVAL.PY

DIMENSIONS: numbers of the guided ones, such as 2,3,4,5,6; the others act as at scale 1, and - is
none. Name OUT by them: its rows do not say them. Within a flow step velocities are mixed per
dimension; what one dimension does later still depends on all others through the network.
"""

import sys

import jax
import jax.numpy as jnp

from pi0_jax.apps.evaluate import command
from pi0_jax.model import flow


def main() -> None:
    """Replaces the mixing of velocities, then evaluates."""
    given = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if given != "-" and not all(number.isdigit() for number in given.split(",")):
        sys.exit(__doc__)
    guided = [int(number) for number in given.split(",") if number != "-"]

    def guide(uncond: jax.Array, cond: jax.Array, scale: jax.Array | float) -> jax.Array:
        """As `flow.guide` in the guided dimensions d of [..., d], `cond` in the others."""
        mask = jnp.zeros(cond.shape[-1]).at[jnp.array(guided, int)].set(1.0)
        return cond + (scale - 1) * mask * (cond - uncond)

    flow.guide = guide
    command()


if __name__ == "__main__":
    main()
