"""Acts on all devices and writes the actions: run by test_replicas in a fresh process.

python tests/replicas_worker.py OUT.npz
"""

import sys

import jax
import numpy as np

from pi0_jax.model import acting as form
from pi0_jax.model import mesh

# The tiny model's larger leaves are to be cut, and it is to be held layer by layer.
mesh.MIN_SIZE, form.LARGE = 64, 0


def main() -> None:
    from test_replicas import acting, noises, seen

    from pi0_jax.training import sharding
    from pi0_jax.training.hardware import Hardware

    policy = acting()
    # As an evaluation has it, from a folder; and as rollouts have it, where training holds it.
    from_host = policy.act(seen(), noises())
    layout = sharding.shardings(
        policy.params, sharding.make_mesh(Hardware(fsdp=jax.device_count()))
    )
    training = policy.with_params(jax.device_put(policy.params, layout))
    table = training.params["PaliGemma"]["llm"]["embedder"]["input_embedding"]
    assert not table.is_fully_replicated
    from_training = training.act(seen(), noises())
    on = [len(p._replicas._placed) for p in (policy, training)]
    np.savez(sys.argv[1], from_host=from_host, from_training=from_training, on=on)


if __name__ == "__main__":
    main()
