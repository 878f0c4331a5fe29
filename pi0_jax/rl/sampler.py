"""Which initial state next, and which groups count: dynamic sampling over a balanced plan.

The sampler is a value: a resumed run goes on with the same states.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pi0_jax.env.base import Task
from pi0_jax.episode import Group


@dataclass(frozen=True)
class Sampler:
    """Where the endless plan of initial states stands.

    State i is task i mod number of tasks (so tasks stay balanced), seed `first_seed + i`. Seeds
    of demonstrations, training and evaluation start far apart and never meet.

    Attributes:
        first_seed: seed of the first initial state.
        drawn: states handed out so far.
        accepted: groups that taught something, so far.
    """

    first_seed: int
    drawn: int = 0
    accepted: int = 0

    def draw(self, tasks: Sequence[Task], count: int) -> tuple[list[tuple[Task, int]], "Sampler"]:
        """The next `count` (task, seed) pairs, and the sampler behind them."""
        indices = range(self.drawn, self.drawn + count)
        states = [(tasks[i % len(tasks)], self.first_seed + i) for i in indices]
        return states, replace(self, drawn=self.drawn + count)

    def accept(self, groups: Sequence[Group], dynamic: bool) -> tuple[list[Group], "Sampler"]:
        """Drops groups that teach nothing, such as one that errors left with a single rollout.

        Args:
            groups: finished groups.
            dynamic: dynamic sampling (RIPT): a group whose rollouts all ended alike has only
                zero advantages and is left out. Without it every other group counts.
        """
        comparable = [group for group in groups if len(group.episodes) > 1]
        kept = [group for group in comparable if not (dynamic and group.uniform)]
        return kept, replace(self, accepted=self.accepted + len(kept))
