"""Where gym-aloha is on this machine. Found without importing it."""

import importlib.util
from pathlib import Path

from pi0_jax.errors import InputError

INSTALL = "pip install -e '.[aloha]' (docs/aloha.md)"


def assets() -> Path:
    """The folder with gym-aloha's models.

    Raises:
        InputError: gym-aloha is not installed.
    """
    spec = importlib.util.find_spec("gym_aloha")
    if spec is None or spec.origin is None:
        raise InputError(f"ALOHA's simulation needs gym-aloha: {INSTALL}")
    return Path(spec.origin).parent / "assets"
