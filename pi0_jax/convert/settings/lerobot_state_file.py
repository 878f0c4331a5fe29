"""The state file of a normalising step of lerobot: every tensor is read, harmless, or an error.

lerobot writes the statistics of all columns of the data set; a step reads those of its features.
A name has two parts: `observation.state.mean` is the statistic `mean` of `observation.state`.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pi0_jax.convert.files import safetensors_file
from pi0_jax.convert.files.known_files import reason
from pi0_jax.convert.settings.lerobot_features import ACTION, STATE
from pi0_jax.convert.settings.stored_stats import FIELDS, UNREAD_FIELDS, check_dtype
from pi0_jax.errors import InputError, some

_COLUMN = "a column of the data set that says where a frame is, and that no policy reads"
_UNREAD = {
    "observation.image*": "pictures, which both steps leave as they are (checked)",
    "observation.*": "an observation beside the state, which no pi0 reads",
    "action.*": "a part of the action by a name of its own; the step reads `action`",
    "timestamp": _COLUMN,
    "frame_index": _COLUMN,
    "episode_index": _COLUMN,
    "index": _COLUMN,
    "task_index": _COLUMN,
    "next.*": "rewards and ends of episodes, which only RL reads",
}
"""Pattern for a quantity to the reason why its statistics change nothing."""

_NAMED = 6


def read_state_file(path: Path, cameras: Iterable[str]) -> dict[str, np.ndarray]:
    """Statistics of state and actions.

    Args:
        path: the file.
        cameras: features of type VISUAL, whose statistics nothing reads.

    Returns:
        Such as "action.mean" to float64[d], without what is harmless.

    Raises:
        InputError: no such file, it cannot be read, or it has a tensor that is unknown or is not
            of real numbers.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file, though a processor names it as its state_file")
    entries = safetensors_file.SafetensorsFile(path).entries
    known = _UNREAD | dict.fromkeys(cameras, "a picture")
    if strange := [key for key in entries if not _is_known(key, known)]:
        raise InputError(
            f"{path}: {some(strange, _NAMED)} may be statistics that the policy is normalised by, "
            "and nothing reads it; take out what changes nothing, in a copy"
        )
    read = {key: entry for key, entry in entries.items() if _is_read(key)}
    for key, entry in read.items():
        check_dtype(key, entry.dtype.name, path)
    return {
        key: np.asarray(safetensors_file.read(entry), np.float64) for key, entry in read.items()
    }


def _is_read(key: str) -> bool:
    quantity, _, field = key.rpartition(".")
    return quantity in (STATE, ACTION) and field in FIELDS


def _is_known(key: str, unread: dict[str, str]) -> bool:
    quantity, _, field = key.rpartition(".")
    if field not in FIELDS and field not in UNREAD_FIELDS:
        return False
    return quantity in (STATE, ACTION) or reason(quantity, unread) is not None
