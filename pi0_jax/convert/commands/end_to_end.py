"""Two policies on the same raw observations and noise, compared in the robot's units.

What converts observations and actions is part of a policy: a wrong normalisation, mask, camera or
prompt moves the robot as a wrong weight does.

Axis letters: b observation, c camera, h w image, H action horizon, d padded action dimension,
e robot's action dimension.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np

from pi0_jax.convert.commands.as_policy import AsPolicy
from pi0_jax.data import normalize
from pi0_jax.data.tokenizer import ByteTokenizer, Tokenizer
from pi0_jax.episode import RawObs
from pi0_jax.model.pi0 import Pi0
from pi0_jax.policy.folder import TOKENIZER_FILE, PolicyFolder
from pi0_jax.policy.policy import Policy
from pi0_jax.policy.spec import PolicySpec
from pi0_jax.robot import Robot

INSTRUCTION = "pick up the red cube"
_OBSERVATIONS = 2

# Of the transforms alone, in deviations: float32 statistics, and lerobot's other epsilon.
TRANSFORM_TOLERANCE = 1e-4
BYTES_NOTE = (
    "neither has its tokenizer: the texts of the prompts are compared as bytes (and cut to the "
    "prompt's length), the ids of the real tokenizer are not"
)


@dataclass(frozen=True)
class Scene:
    """What both policies see.

    Attributes:
        observations: b raw ones per policy, each in the order of its own cameras.
        noise: float32[b, H, d].
        scale: float64[e], the unit of errors: the deviation of each of the first one's actions.
        tokenizers: of each policy; None for its own.
        notes: what is not compared.
    """

    observations: tuple[list[RawObs], list[RawObs]]
    noise: np.ndarray
    scale: np.ndarray
    tokenizers: tuple[Tokenizer | None, Tokenizer | None]
    notes: list[str]


@dataclass(frozen=True)
class Acted:
    """What one policy made of its observations.

    Attributes:
        images: uint8[b, c, h, w, 3] as the network gets them.
        state: float32[b, d], normalised.
        prompts: ids of the real tokens of each prompt.
        replay: float32[b, H, e], the noise as if the network had returned it.
        actions: float32[b, H, e].
    """

    images: np.ndarray
    state: np.ndarray
    prompts: list[list[int]]
    replay: np.ndarray
    actions: np.ndarray


@dataclass(frozen=True)
class CutBytes:
    """`ByteTokenizer` for every network: ids up to its last row, and as many as it takes.

    Attributes:
        vocab_size: rows of the token embedding.
        length: prompt tokens.
    """

    vocab_size: int
    length: int
    kind: str = "bytes"

    def encode(self, prompt: str, state: Sequence[int] | None = None) -> list[int]:
        """Ids of the first bytes."""
        ids = ByteTokenizer().encode(prompt, state)[: self.length]
        return [min(token, self.vocab_size - 1) for token in ids]


def obstacles(a: PolicySpec, b: PolicySpec) -> list[str]:
    """Why two policies cannot get the same observation, or have no comparable actions."""
    pairs = {
        "cameras": (len(a.robot.cameras), len(b.robot.cameras)),
        "values of state": (len(a.robot.state), len(b.robot.state)),
        "actions": (len(a.robot.actions), len(b.robot.actions)),
        "actions per chunk": (a.model.action_horizon, b.model.action_horizon),
    }
    return [f"{x} and {y} {what}" for what, (x, y) in pairs.items() if x != y]


def scene(a: AsPolicy, b: AsPolicy, seed: int) -> Scene:
    """Random pictures, states as the first one's statistics have them, and noise.

    Args:
        a: the first policy.
        b: the second; it has as many cameras, values of state and actions.
        seed: of all values.
    """
    rng, model, robot = np.random.default_rng(seed), a.spec.model, a.spec.robot
    size, count = model.vision.image_size, _OBSERVATIONS
    stats, width = a.found.stats, len(robot.state)
    states = stats.state.mean[:width] + stats.state.std[:width] * rng.normal(size=(count, width))
    shape = (count, len(robot.cameras), size, size, 3)
    first = [
        RawObs(images, state, INSTRUCTION)
        for images, state in zip(
            rng.integers(256, size=shape, dtype=np.uint8), states.astype(np.float32), strict=True
        )
    ]
    order = _camera_order(robot, b.spec.robot)
    second = [replace(obs, images=obs.images[order]) for obs in first]
    noise = rng.standard_normal((count, model.action_horizon, model.action_dim), np.float32)
    tokenizers, notes = _tokenizers(a, b)
    return Scene((first, second), noise, _scale(a), tokenizers, notes)


def act(policy: PolicyFolder, scene: Scene, number: int) -> Acted:
    """One policy on its observations, in float32; its robot's limits do not clip.

    A policy of random weights, or one far off, would stand at its limits and look right.

    Args:
        policy: with its parameters.
        scene: what it sees.
        number: 0 for the first policy, 1 for the second.

    Raises:
        InputError: the instruction does not fit its prompt, or an action is not finite.
    """
    observations, tokenizer = scene.observations[number], scene.tokenizers[number]
    transforms = replace(policy.transforms, robot=_unlimited(policy.spec.robot))
    if tokenizer is not None:
        transforms = replace(transforms, tokenizer=tokenizer)
    model = Pi0(replace(policy.spec.model, compute_dtype="float32"))
    seen = transforms.observe(observations)
    states = np.stack([obs.state for obs in observations])
    prompts = zip(np.asarray(seen.prompt), np.asarray(seen.prompt_mask), strict=True)
    # The default precision of some accelerators rounds float32 products to fewer bits.
    with jax.default_matmul_precision("highest"):
        acting = Policy(model, policy.params, transforms, rows=len(observations))
        actions = acting.act(observations, scene.noise)
    return Acted(
        images=np.asarray(seen.images),
        state=np.asarray(seen.state),
        prompts=[ids[mask].tolist() for ids, mask in prompts],
        replay=transforms.robot_actions(scene.noise, states),
        actions=actions,
    )


def errors(a: Acted, b: Acted, scale: np.ndarray) -> dict[str, float]:
    """Largest differences: actions in deviations, prompts and pictures as a share that differs."""
    return {
        "images": float(np.mean(a.images != b.images)),
        "normalised_state": float(np.abs(a.state - b.state).max()),
        "prompts": float(np.mean([x != y for x, y in zip(a.prompts, b.prompts, strict=True)])),
        "same_chunk_in_robot_units": float((np.abs(a.replay - b.replay) / scale).max()),
        "actions": float((np.abs(a.actions - b.actions) / scale).max()),
    }


def _camera_order(a: Robot, b: Robot) -> list[int]:
    """For each camera of b its number in a: by name where both have the same names."""
    if set(a.cameras) != set(b.cameras):
        return list(range(len(b.cameras)))
    return [a.cameras.index(name) for name in b.cameras]


def _tokenizers(
    a: AsPolicy, b: AsPolicy
) -> tuple[tuple[Tokenizer | None, Tokenizer | None], list[str]]:
    """A tokenizer in place of one whose file is missing, with what that means."""
    missing = [
        policy.spec.tokenizer == "paligemma" and not (policy.folder / TOKENIZER_FILE).exists()
        for policy in (a, b)
    ]
    if all(missing):
        model = a.spec.model
        bytes_ = CutBytes(model.vocab_size, min(model.prompt_length, b.spec.model.prompt_length))
        return (bytes_, bytes_), [BYTES_NOTE]
    if not any(missing):
        return (None, None), []
    # A checkpoint of openpi or lerobot has no such file: it takes the only one there is.
    owner, name = (b, "a") if missing[0] else (a, "b")
    tokenizer = owner.loaded({}).transforms.tokenizer
    note = f"{name} has no {TOKENIZER_FILE}: its prompts are encoded by the other one's"
    return ((tokenizer, None) if missing[0] else (None, tokenizer)), [note]


def _scale(policy: AsPolicy) -> np.ndarray:
    """float64[e]: what one unit of a normalised action is in the robot's units."""
    undo = normalize.undo_quantile if policy.spec.quantile else normalize.undo_z_score
    zero, one = (np.full(len(policy.spec.robot.actions), value) for value in (0.0, 1.0))
    stats = policy.found.stats.actions
    # An action that stands still has no deviation: a thousandth of its value counts.
    return np.maximum(undo(one, stats) - undo(zero, stats), 1e-3 * np.abs(undo(zero, stats)))


def _unlimited(robot: Robot) -> Robot:
    return replace(
        robot, actions=tuple(replace(action, low=None, high=None) for action in robot.actions)
    )
