"""Packages that only some commands need: imported, or one sentence that says how to get them."""

import contextlib
from collections.abc import Iterator

from pi0_jax.errors import InputError


@contextlib.contextmanager
def needed(by: str, install: str) -> Iterator[None]:
    """Around the import of packages that are no dependency.

    Args:
        by: what needs them, as the subject of the message: "a LeRobot folder".
        install: the command that installs them.

    Raises:
        InputError: one of them is not installed. An installed one that cannot be loaded (no memory,
            a library of the system that is missing) keeps its own error.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(f"{by} needs {error.name}: run `{install}`") from error
