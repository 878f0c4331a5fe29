"""RawObs to Observation, and actions back: the ONE path of training, rollout and evaluation.

Order as in openpi: action space, normalise, resize, tokenise, zero-pad. Padding comes last, so it
is exactly 0, and a state that a pi0.5 reads as text has the robot's own width.

Axis letters: b batch, c camera, h w image, t prompt token, H horizon, e robot's own dimension,
d padded dimension.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pi0_jax.data import normalize
from pi0_jax.data.action_space import AS_THE_ROBOT, ActionSpace
from pi0_jax.data.branches import EMBEDDING, branch_prompt
from pi0_jax.data.normalize import NormStats, Stats
from pi0_jax.data.tokenizer import Tokenizer, longest_state, pad_prompt, state_bins
from pi0_jax.episode import RawObs
from pi0_jax.pictures import resize_with_pad
from pi0_jax.robot import Robot
from pi0_jax.types import Observation


@dataclass(frozen=True)
class Transforms:
    """How a policy's inputs and outputs are converted, as its folder describes it.

    Attributes:
        image_size: height and width [px] of the network's images.
        padded_dim: d, the network's state and action dimension.
        prompt_length: t, the network's number of prompt tokens.
        tokenizer: tokenizer of the prompt.
        stats: statistics of states and actions in `action_space`.
        robot: the robot of these states and actions; e is its number of actions.
        action_space: what lies between the robot and the statistics: relative actions, ALOHA's
            convention. The checkpoint `pi0_libero` has relative actions, although LIBERO's actions
            are motions already.
        quantile: normalise by quantiles instead of z-scores.
        branch_mode: how the branches of guidance differ (`data/branches.py`).
        state_in_prompt: write the normalised state into the prompt, as most pi0.5 read it.
        padded_state_text: write it zero-padded to `padded_dim`, as lerobot 0.4 did.
    """

    image_size: int
    padded_dim: int
    prompt_length: int
    tokenizer: Tokenizer
    stats: NormStats
    robot: Robot
    action_space: ActionSpace = AS_THE_ROBOT
    quantile: bool = False
    branch_mode: str = EMBEDDING
    state_in_prompt: bool = False
    padded_state_text: bool = False

    def observe(self, observations: Sequence[RawObs]) -> Observation:
        """Converts b raw observations into host arrays with leading axis b.

        The prompts are those of the conditional branch.
        """
        images = np.stack([self.images(obs.images) for obs in observations])  # [b, c, h, w, 3]
        prompt, prompt_mask = self.prompts(observations)
        return Observation(
            images=images,
            image_mask=np.stack([_camera_mask(obs) for obs in observations]),
            state=self.state(np.stack([obs.state for obs in observations])),
            prompt=prompt,
            prompt_mask=prompt_mask,
        )

    def prompts(
        self, observations: Sequence[RawObs], positive: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """int32[b, t] ids and bool[b, t] masks of the conditional or the unconditional branch."""
        rows = [
            self.prompt(branch_prompt(self.branch_mode, obs.prompt, positive), obs.state)
            for obs in observations
        ]
        return np.stack([ids for ids, _ in rows]), np.stack([mask for _, mask in rows])

    def images(self, images: np.ndarray) -> np.ndarray:
        """uint8[c, h, w, 3] to uint8[c, size, size, 3]."""
        return np.stack([resize_with_pad(image, self.image_size) for image in images])

    def prompt(self, prompt: str, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """int32[t] ids and bool[t] mask of a prompt at raw state float[e]."""
        bins = state_bins(self._written_state(state)) if self.state_in_prompt else None
        return pad_prompt(self.tokenizer.encode(prompt, bins), self.prompt_length)

    def check_prompt(self, prompt: str, positive: bool = True) -> None:
        """Encodes an instruction with the longest state that there may be.

        Raises:
            InputError: it does not fit the model, or the tokenizer's file is missing.
        """
        text = branch_prompt(self.branch_mode, prompt, positive)
        own, padding = len(self.robot.state), self.padded_dim - len(self.robot.state)
        bins = longest_state(own + padding * self.padded_state_text)
        bins = bins if self.state_in_prompt else None
        pad_prompt(self.tokenizer.encode(text, bins), self.prompt_length)

    def state(self, state: np.ndarray) -> np.ndarray:
        """float[..., e] to normalised float32[..., d]."""
        return self._pad(self._normalized_state(state))

    def actions(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Robot actions float[..., H, e] at raw state float[..., e'] to float32[..., H, d]."""
        encoded = self.action_space.encode(actions, state)  # [..., H, e]
        return self._pad(self._normalize(encoded, self.stats.actions))

    def robot_actions(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Inverse of `actions`: float32[..., H, d] to float32[..., H, e]."""
        undo = normalize.undo_quantile if self.quantile else normalize.undo_z_score
        # In float64, as in `actions`: the inverse is then exact to float32.
        own = undo(np.asarray(actions, np.float64), self.stats.actions)
        own = own[..., : len(self.robot.actions)]  # [..., H, d] to [..., H, e]
        return self.action_space.decode(own, state).astype(np.float32)

    def _written_state(self, state: np.ndarray) -> np.ndarray:
        """The values of a raw state float[e] that the prompt has: the robot's own, or padded."""
        return self.state(state) if self.padded_state_text else self._normalized_state(state)

    def _normalized_state(self, state: np.ndarray) -> np.ndarray:
        return self._normalize(self.action_space.state(state), self.stats.state)

    def _normalize(self, x: np.ndarray, stats: Stats) -> np.ndarray:
        # In float64, and rounded once in `_pad`.
        apply = normalize.quantile if self.quantile else normalize.z_score
        return apply(np.asarray(x, np.float64), stats)

    def _pad(self, x: np.ndarray) -> np.ndarray:
        """float[..., e] to float32[..., d]: zeros after the robot's own dimensions."""
        padded = np.zeros((*x.shape[:-1], self.padded_dim), np.float32)
        padded[..., : x.shape[-1]] = x
        return padded


def _camera_mask(obs: RawObs) -> np.ndarray:
    """bool[c]: False for a camera that the policy must not see."""
    return np.ones(len(obs.images), bool) if obs.camera_mask is None else obs.camera_mask
