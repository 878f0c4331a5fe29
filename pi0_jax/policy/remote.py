"""What rollouts need of a policy that computes elsewhere: it draws its noise there, from seeds.

Axis letters: b batch, H action horizon, e robot's action dimension.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from pi0_jax.episode import RawObs
from pi0_jax.robot import Robot


@runtime_checkable
class RemotePolicy(Protocol):
    """A policy behind a server (`serve/client.py`)."""

    @property
    def uri(self) -> str:
        """Where it computes."""
        ...

    @property
    def robot(self) -> Robot:
        """As `Policy.robot`."""
        ...

    @property
    def action_horizon(self) -> int:
        """H, the actions of a chunk."""
        ...

    def act_seeded(
        self, observations: Sequence[RawObs], seeds: Sequence[tuple[int, ...]]
    ) -> np.ndarray:
        """float32[b, H, e], as `Policy.act_seeded`."""
        ...
