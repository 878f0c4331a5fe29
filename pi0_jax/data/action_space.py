"""The space in which a policy's states and actions are normalised, against that of the robot.

Two things may lie between them: ALOHA's joints and grippers in pi's convention (`aloha.py`), and
actions relative to the state (openpi's `DeltaActions`, lerobot's relative actions). The order is
openpi's: first the convention, then the difference.

Axis letters: s state dimension, e action dimension, H action horizon.
"""

from dataclasses import dataclass

import numpy as np

from pi0_jax.data import aloha
from pi0_jax.errors import InputError, check_choices
from pi0_jax.robot import Robot

NONE = "none"
_MOST = 1000  # actions of one kind in a row; no robot has more
ADAPTATIONS = (NONE, *aloha.CONVENTIONS)


@dataclass(frozen=True)
class ActionSpace:
    """How the raw states and actions of a robot become those that statistics describe.

    Attributes:
        delta_mask: per action, whether it is stored less the state value of the same index at the
            start of its chunk; shorter than the actions if the rest is absolute, empty for none.
        adapt_to_pi: whose conversion of ALOHA's joints and grippers surrounds the network:
            "openpi", "lerobot" (0.1-0.3), or "none".
    """

    delta_mask: tuple[bool, ...] = ()
    adapt_to_pi: str = NONE

    def __post_init__(self) -> None:
        """Checks the name of the conversion and the mask.

        Raises:
            InputError: it is unknown, or an entry of the mask is no bool.
        """
        if not all(isinstance(delta, bool) for delta in self.delta_mask):
            raise InputError(f"delta_mask must hold true and false, got {self.delta_mask}")
        check_choices("action space", self, {"adapt_to_pi": ADAPTATIONS})

    def check_robot(self, robot: Robot) -> None:
        """Checks that the robot has the dimensions that are converted.

        Raises:
            InputError: a relative action does not exist or has no state value of the same index,
                or ALOHA's conversion was chosen for a robot of other widths.
        """
        states, actions = len(robot.state), len(robot.actions)
        last = max((i for i, delta in enumerate(self.delta_mask) if delta), default=-1)
        if len(self.delta_mask) > actions or last >= states:
            raise InputError(
                f"delta mask {mask_text(self.delta_mask)!r}: expected at most {actions} actions, "
                f"relative ones among the first {states} (values of state), as robot "
                f"{robot.name!r} has"
            )
        if self.adapt_to_pi != NONE and (states, actions) != (aloha.WIDTH, aloha.WIDTH):
            raise InputError(
                f"adapt_to_pi {self.adapt_to_pi!r} is for ALOHA's 14 values of state and 14 "
                f"actions, robot {robot.name!r} has {states} and {actions}"
            )

    def state(self, state: np.ndarray) -> np.ndarray:
        """float[..., s] as the network's statistics describe it."""
        if self.adapt_to_pi == NONE:
            return state
        return aloha.state_to_pi(state, self.adapt_to_pi)

    def absolute_actions(self, actions: np.ndarray) -> np.ndarray:
        """The robot's actions float[..., e] in the network's convention, before the difference."""
        if self.adapt_to_pi == NONE:
            return actions
        return aloha.actions_to_pi(actions, self.adapt_to_pi)

    def encode(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        """The robot's actions float[..., H, e] at raw state float[..., s] as the network's."""
        return self.absolute_actions(actions) - self._offset(state, actions.shape[-1])

    def decode(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Inverse of `encode`."""
        absolute = actions + self._offset(state, actions.shape[-1])
        if self.adapt_to_pi == NONE:
            return absolute
        return aloha.actions_from_pi(absolute, self.adapt_to_pi)

    def _offset(self, state: np.ndarray, width: int) -> np.ndarray:
        """float[..., 1, e]: the state that actions are relative to; 0 where they are absolute."""
        offset = np.zeros((*state.shape[:-1], 1, width))
        relative = np.flatnonzero(self.delta_mask)
        offset[..., 0, relative] = self.state(state)[..., relative]
        return offset


AS_THE_ROBOT = ActionSpace()
"""Nothing lies between: absolute actions in the robot's own convention."""


def parse_mask(text: str) -> tuple[bool, ...]:
    """Openpi's spelling of a mask: "6,-1" is six relative actions, then an absolute one.

    Raises:
        ValueError: it is no comma-separated list of whole numbers other than 0, up to 1000.
    """
    counts = [int(part) for part in text.split(",")]
    if not all(0 < abs(count) <= _MOST for count in counts):
        raise ValueError(f"expected numbers of actions up to {_MOST}, got {text}")
    return tuple(count > 0 for count in counts for _ in range(abs(count)))


def mask_text(mask: tuple[bool, ...]) -> str:
    """Inverse of `parse_mask`; empty for an empty mask."""
    counts: list[int] = []
    for delta in mask:
        sign = 1 if delta else -1
        if counts and counts[-1] * sign > 0:
            counts[-1] += sign
        else:
            counts.append(sign)
    return ",".join(map(str, counts))
