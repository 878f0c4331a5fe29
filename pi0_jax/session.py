"""What every stage of a run needs in hand."""

from dataclasses import dataclass

import numpy as np

from pi0_jax.env.pool import SimulatorPool
from pi0_jax.env.suite import Suite
from pi0_jax.run_folder import RunFolder

_SEED_STRIDE = 10_000_000  # initial states apart from one run's seed to the next


@dataclass(frozen=True)
class Session:
    """A running job.

    Attributes:
        run: where everything is written.
        suite: the tasks.
        pool: where the simulators are.
        seed: of the whole run.
    """

    run: RunFolder
    suite: Suite
    pool: SimulatorPool
    seed: int

    def rng(self, *key: int) -> np.random.Generator:
        """A generator of the run's seed and `key` alone: a resumed run draws the same."""
        return np.random.default_rng((self.seed, *key))

    def first_state(self, first_seed: int) -> int:
        """Seed of the first initial state of a training stream: every run seed has its own."""
        return first_seed + _SEED_STRIDE * self.seed
