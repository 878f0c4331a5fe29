"""Goes on with a training of one device on eight, in fresh processes: run by test_sharding.

python tests/moved_worker.py FOLDER     FOLDER/1 is a checkpoint of mesh_worker; makes FOLDER/2.1
"""

import sys
from pathlib import Path

import jax
import numpy as np
from mesh_worker import cut_small_leaves, parts

from pi0_jax.testing import batch
from pi0_jax.training import checkpoint
from pi0_jax.training.fit import create_training, fit
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.sharding import gather


def main() -> None:
    cut_small_leaves()
    folder = Path(sys.argv[1])
    params, loss, config, frozen = parts()

    def restored(hardware: Hardware) -> tuple:
        state, update = create_training(params, loss, config, 2, hardware)
        found = checkpoint.restore(folder, state, 1, frozen)
        for leaf, place in zip(*map(jax.tree.leaves, (found, state)), strict=True):
            assert leaf.sharding == place.sharding
        return found, update

    state, update = restored(Hardware(fsdp=8))
    # Another layout of the same devices has the same bits.
    other, _ = restored(Hardware(data=4, fsdp=2))
    jax.tree.map(np.testing.assert_array_equal, gather(other), gather(state))
    state = fit(state, update, lambda step: batch(16, step), 2, jax.random.key(1), 1, print)
    checkpoint.save(folder, 2, state, {}, keep=9, frozen=frozen)


if __name__ == "__main__":
    main()
