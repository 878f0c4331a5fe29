"""Checks a policy's inputs, once and before anything is computed; each fault is one sentence.

Axis letters: b batch, c camera, h w image, s state dimension, H action horizon, d padded action
dimension.
"""

from collections.abc import Sequence

import numpy as np

from pi0_jax.episode import RawObs
from pi0_jax.errors import InputError
from pi0_jax.robot import Robot


def check_observations(observations: Sequence[RawObs], robot: Robot) -> None:
    """Checks that every observation has this robot's cameras and state.

    Args:
        observations: at least one.
        robot: the policy's robot.

    Raises:
        InputError: the first fault, with what was expected and what was got.
    """
    # A single observation is the most likely mistake.
    if not isinstance(observations, Sequence) or not observations:
        one, kind = isinstance(observations, RawObs), type(observations).__name__
        none = "none" if isinstance(observations, Sequence) else kind
        got = "one that is in no list" if one else none
        raise InputError(f"expected a list of at least one observation, got {got}")
    for index, obs in enumerate(observations):
        if not isinstance(obs, RawObs):
            raise InputError(f"observation {index}: expected a RawObs, got {type(obs).__name__}")
        _check_images(obs.images, robot, f"observation {index}")
        _check_camera_mask(obs.camera_mask, robot, f"observation {index}")
        _check_state(obs.state, robot, f"observation {index}")
        if not isinstance(obs.prompt, str):
            raise InputError(
                f"observation {index}: expected the instruction as a string, got {obs.prompt!r}"
            )


def check_noise(noise: np.ndarray, shape: tuple[int, ...]) -> None:
    """Checks that the noise is a finite floating-point array float[b, H, d].

    Raises:
        InputError: its shape or dtype is another, or a value is not finite.
    """
    found = np.asarray(noise)
    if found.shape != shape or not np.issubdtype(found.dtype, np.floating):
        raise InputError(
            f"expected noise float32{list(shape)} (observations, action horizon, the model's "
            f"action dimension), got {found.dtype}{list(found.shape)}"
        )
    if not np.isfinite(found).all():
        raise InputError("expected finite noise, got NaN or infinity")


def _check_images(images: np.ndarray, robot: Robot, where: str) -> None:
    """Checks images uint8[c, h, w, 3], one per camera of the robot."""
    cameras = ", ".join(robot.cameras)
    wanted = f"{where}: expected images uint8[{len(robot.cameras)}, height, width, 3] ({cameras})"
    if not isinstance(images, np.ndarray):
        raise InputError(f"{wanted}, got {type(images).__name__}; np.stack them")
    got = f"{images.dtype}{list(images.shape)}"
    # Floats in [0, 1] would pass through the network unscaled and give wrong actions.
    if images.dtype != np.uint8:
        raise InputError(f"{wanted}, got {got}; scale to 0..255 and convert to uint8")
    if images.ndim != 4 or images.shape[-1] != 3:
        # Torch code has the colours first, [c, 3, h, w].
        first = images.ndim == 4 and images.shape[1] == 3
        cure = "; move the colours to the last axis" if first else ""
        raise InputError(f"{wanted}, got {got}{cure}")
    if len(images) != len(robot.cameras):
        raise InputError(f"{wanted}, got {got}; a camera that is missing needs a camera_mask")
    if not images.size:
        raise InputError(f"{wanted}, got {got}, which has no pixel")


def _check_camera_mask(mask: np.ndarray | None, robot: Robot, where: str) -> None:
    """Checks a mask bool[c] that leaves at least one camera."""
    if mask is None:
        return
    found = np.asarray(mask)
    if found.dtype != np.bool_ or found.shape != (len(robot.cameras),):
        raise InputError(
            f"{where}: expected camera_mask bool[{len(robot.cameras)}], got "
            f"{found.dtype}{list(found.shape)}"
        )
    # Without any image the policy would act on the prompt and the state alone.
    if not found.any():
        raise InputError(f"{where}: camera_mask hides every camera; show at least one")


def _check_state(state: np.ndarray, robot: Robot, where: str) -> None:
    """Checks that a state is s finite numbers, shape [s]."""
    names = ", ".join(d.name for d in robot.state)
    found = np.asarray(state)
    if found.shape != (len(robot.state),) or not np.issubdtype(found.dtype, np.number):
        raise InputError(
            f"{where}: expected a state of {len(robot.state)} numbers ({names}), got "
            f"{found.dtype}{list(found.shape)}"
        )
    if not np.isfinite(found).all():
        bad = [d.name for d, good in zip(robot.state, np.isfinite(found), strict=True) if not good]
        raise InputError(f"{where}: expected a finite state, got NaN or infinity in {bad}")
