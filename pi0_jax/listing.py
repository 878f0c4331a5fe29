"""What lies in a folder. One that may not be read is an error; `Path.glob` takes it for empty."""

import os
from fnmatch import fnmatchcase
from pathlib import Path


def entries(folder: Path, pattern: str = "*") -> list[Path]:
    """Files and folders in a folder itself whose names fit, sorted; none without a folder.

    Raises:
        OSError: it may not be read, or is none.
    """
    try:
        return sorted(path for path in folder.iterdir() if fnmatchcase(path.name, pattern))
    except FileNotFoundError:
        return []


def below(folder: Path, pattern: str = "*") -> list[Path]:
    """Files and folders anywhere below a folder whose names fit, sorted; links are not followed.

    Raises:
        OSError: a folder may not be read.
    """
    if not folder.is_dir():
        return []
    return sorted(
        Path(place, name)
        for place, folders, files in os.walk(folder, onerror=_fail)
        for name in (*folders, *files)
        if fnmatchcase(name, pattern)
    )


def _fail(error: OSError) -> None:
    # One that went meanwhile has nothing.
    if not isinstance(error, FileNotFoundError):
        raise error
