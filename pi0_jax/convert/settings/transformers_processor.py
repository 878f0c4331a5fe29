"""What transformers' PI0Processor does with pictures, states and actions, where its files say so.

processor_config.json holds its statistics; pictures are there too, or in preprocessor_config.json.
transformers `models/pi0/processing_pi0.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pi0_jax.convert.settings.declared import StoredStats
from pi0_jax.convert.settings.kinds import NUMBERS, OBJECT, WHOLE
from pi0_jax.convert.settings.known_settings import Known, fail, problems
from pi0_jax.convert.settings.stored_stats import stats_from
from pi0_jax.errors import InputError
from pi0_jax.json_file import read_object

PROCESSOR, PICTURES = "processor_config.json", "preprocessor_config.json"
# x / 255 · 2 - 1. Sizes and padding are those of the network; pi0_jax resizes as openpi does.
_PICTURES = Known(
    fixed={
        "image_mean": ([0.5] * 3, 0.5),
        "image_std": ([0.5] * 3, 0.5),
        "do_normalize": (True, None),
        "do_rescale": (True, None),
        "rescale_factor": (1 / 255,),
        "do_center_crop": (False, None),
        "do_convert_rgb": (True, None),
    }
)
# Quantity -> the library's word for it.
_QUANTITIES = {"state": "state", "action": "actions"}
_STATISTICS = [f"{word}_{field}" for word in _QUANTITIES.values() for field in ("mean", "std")]
_PROCESSOR = Known(
    read={**dict.fromkeys(_STATISTICS, NUMBERS), "max_state_dim": WHOLE, "image_processor": OBJECT},
    # PaliGemma's has no states, so it says nothing of them.
    fixed={"processor_class": ("PI0Processor", "PaliGemmaProcessor")},
    harmless={
        "chunk_size": "only training reads it",
        "chat_template": "a prompt for chats",
        "image_seq_length": "the image tower has the size",
        "auto_map": "where the library finds its class",
        "transformers_version": "which version wrote it",
    },
)


@dataclass(frozen=True)
class Processor:
    """What the files declare; None where they say nothing.

    Attributes:
        statistics: mean and deviation of the raw state and of the actions.
        padded_dim: width to which states and actions are padded.
    """

    statistics: StoredStats | None = None
    padded_dim: int | None = None


def check_pictures(folder: Path) -> None:
    """Checks the picture settings of a checkpoint's folder.

    Raises:
        InputError: a file that cannot be read, or pictures that become other numbers.
    """
    for path in (folder / PROCESSOR, folder / PICTURES):
        if path.is_file():
            fail(path, problems(_picture_settings(path), _PICTURES))


def read_processor(folder: Path) -> Processor:
    """Reads what the processor declares besides pictures.

    Raises:
        InputError: a file that cannot be read, another library's processor, a setting that is
            unknown, or impossible statistics.
    """
    path = folder / PROCESSOR
    if not path.is_file():
        return Processor()
    values = read_object(path)
    fail(path, problems(values, _PROCESSOR))
    return Processor(_statistics(values, path), values.get("max_state_dim"))


def refuse_statistics(folder: Path) -> None:
    """Checks that there are no statistics of transformers where nobody reads them.

    That is beside another library's config.json, or beside an adapter.

    Raises:
        InputError: there are some, or the file cannot be read.
    """
    path = folder / PROCESSOR
    values = read_object(path) if path.is_file() else {}
    found = [key for key in _STATISTICS if values.get(key)]
    if found:
        raise InputError(
            f"{path}: {', '.join(found)}, which transformers reads beside its own config.json, and "
            "nobody here; say which statistics with --norm-stats FILE, in a copy without this file"
        )


def _statistics(values: Mapping[str, Any], path: Path) -> StoredStats | None:
    missing = [key for key in _STATISTICS if values.get(key) is None]
    if len(missing) == len(_STATISTICS):
        return None
    if missing:
        raise InputError(
            f"{path}: statistics without {', '.join(missing)}; a policy needs all four: add what "
            "is missing, or take the others out, in a copy"
        )
    tensors = {
        f"{name}.{field}": np.asarray(values[f"{word}_{field}"], np.float64)
        for name, word in _QUANTITIES.items()
        for field in ("mean", "std")
    }
    state, actions = (stats_from(tensors, name, str(path)) for name in _QUANTITIES)
    assert state is not None and actions is not None
    return StoredStats(str(path), state, actions)


def _picture_settings(path: Path) -> dict[str, Any]:
    """The settings that change a pixel; all others are of sizes and speed."""
    values = read_object(path)
    # processor_config.json holds several processors, each under its name.
    values = values.get("image_processor", values)
    if not isinstance(values, dict):
        raise InputError(f"{path}: image_processor is {values!r:.40}, expected an object {{...}}")
    return {key: value for key, value in values.items() if key in _PICTURES.fixed}
