"""How transformers turns pictures into numbers, where its files say so: as pi0, or an error."""

from pathlib import Path
from typing import Any

from pi0_jax.convert.settings.known_settings import Known, fail, problems
from pi0_jax.errors import InputError
from pi0_jax.json_file import read_object

_FILES = ("preprocessor_config.json", "processor_config.json")
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


def check_pictures(folder: Path) -> None:
    """Checks the picture settings beside a config.json of transformers.

    Raises:
        InputError: a file that cannot be read, or pictures that become other numbers.
    """
    for name in _FILES:
        path = folder / name
        if path.is_file():
            fail(path, problems(_settings(path), _PICTURES))


def _settings(path: Path) -> dict[str, Any]:
    """The settings that change a pixel; all others are of sizes, tokens and speed."""
    values = read_object(path)
    # processor_config.json holds several processors, each under its name.
    values = values.get("image_processor", values)
    if not isinstance(values, dict):
        raise InputError(f"{path}: image_processor is {values!r:.40}, expected an object {{...}}")
    return {key: value for key, value in values.items() if key in _PICTURES.fixed}
