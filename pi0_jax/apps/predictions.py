"""What a fine-tuned policy predicts on held-out episodes, stored for the report.

RUN/held_out/episodes.json   per episode: recorded actions and predicted chunks
RUN/held_out/*.png           what the robot saw where chunks begin

Axis letters: t control step, n chunk, H action horizon, e action dimension, c camera.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pi0_jax.data.lerobot.recording import Recording
from pi0_jax.io.atomic import write_text
from pi0_jax.policy.policy import Policy
from pi0_jax.report.held_out import HELD_OUT_FOLDER

_SIDE = 160  # px of a picture
_PICTURES = 6  # of an episode
_DIGITS = 5


def write_predictions(run_dir: Path, policy: Policy, recordings: Sequence[Recording]) -> None:
    """Predicts one chunk after the other over whole episodes, each from what was recorded.

    Args:
        run_dir: the run folder.
        policy: the policy.
        recordings: the episodes.

    Raises:
        InputError: a picture cannot be read.
    """
    folder = run_dir / HELD_OUT_FOLDER
    folder.mkdir(exist_ok=True)
    robot = policy.robot
    episodes = {
        "names": [dimension.name for dimension in robot.actions],
        "units": [dimension.unit for dimension in robot.actions],
        "control_hz": robot.control_hz,
        "episodes": [_episode(folder, policy, one) for one in recordings],
    }
    write_text(folder / "episodes.json", json.dumps(episodes) + "\n")


def _episode(folder: Path, policy: Policy, recording: Recording) -> dict[str, Any]:
    horizon = policy.model.config.action_horizon
    allowed = recording.starts(horizon, skip_short=False)
    starts = _tiled(allowed.tolist(), horizon)
    size = policy.transforms.image_size
    observations = [recording.observation(start, size) for start in starts]
    chunks = policy.act_seeded(observations, [(start,) for start in starts])  # [n, H, e]
    # A chunk ends where the next one begins, and the last one with the episode.
    ends = [*starts[1:], len(recording)]
    predicted = [
        chunk[: end - start] for start, end, chunk in zip(starts, ends, chunks, strict=True)
    ]
    shown = starts[:: -(-len(starts) // _PICTURES)]
    return {
        "number": recording.number,
        "prompt": recording.prompts[0],
        "recorded": _plain(recording.actions),
        "chunks": [
            {"start": start, "actions": _plain(chunk)}
            for start, chunk in zip(starts, predicted, strict=True)
        ],
        "pictures": [{"step": s, "file": _picture(folder, recording, s)} for s in shown],
    }


def _tiled(allowed: Sequence[int], horizon: int) -> list[int]:
    """Steps at which chunks begin: the first with a picture, and the first behind each chunk."""
    starts: list[int] = []
    for step in allowed:
        if not starts or step >= starts[-1] + horizon:
            starts.append(step)
    return starts


def _picture(folder: Path, recording: Recording, step: int) -> str:
    """Writes what all cameras saw, side by side; returns the name of the file."""
    # Of another size than the network's, so kept frames are of no use, and none is to be kept.
    images = replace(recording, cache=None).observation(step, _SIDE).images  # [c, h, w, 3]
    name = f"{recording.number:06d}_{step:05d}.png"
    Image.fromarray(np.concatenate(list(images), axis=1)).save(folder / name)
    return name


def _plain(actions: np.ndarray) -> list[list[float]]:
    return [[float(f"{x:.{_DIGITS}g}") for x in row] for row in actions.tolist()]
