"""Whether a folder is still what was written: `digests.json`, with size and CRC-32 of each file.

A CRC-32 finds every flipped bit and every burst of 32 bits, and other damage but for one case in
4e9. zlib-ng computes it at 20 GB/s on one core, Python's own zlib at 4, SHA-256 at 1.8
(bench/digests.py). It protects against disks and copies, not against people: who changes a file can
change its digest too.
"""

import json
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zlib_ng import zlib_ng

from pi0_jax.errors import InputError, first_line, some
from pi0_jax.inside import file_inside
from pi0_jax.json_file import read_object
from pi0_jax.listing import below
from pi0_jax.plain_file import check_file

DIGESTS = "digests.json"

_ALGORITHM = "crc32"
_BLOCK = 2**20  # read at a time: fits into a core's cache, and is digested there
_THREADS = 4  # other threads run meanwhile

_logger = logging.getLogger(__name__)


def write_digests(folder: Path, digest: Callable[[Path], str] | None = None) -> None:
    """Writes the digests of all files in a folder, its own subfolders included.

    Called before the folder gets its name, so that folder and digests appear together.

    Args:
        folder: the folder.
        digest: file -> its CRC-32, where it may be known already (`io/settle.py`).
    """
    names = [str(path.relative_to(folder)) for path in _files(folder)]
    with ThreadPoolExecutor(_THREADS) as threads:
        digests = threads.map(
            lambda name: [(folder / name).stat().st_size, (digest or crc32)(folder / name)], names
        )
        files = dict(zip(names, digests, strict=True))
    text = json.dumps({"algorithm": _ALGORITHM, "files": files}, indent=1)
    (folder / DIGESTS).write_text(text + "\n")


def check_digests(folder: Path, *, largest: int | None = None) -> None:
    """Checks that every file of a folder is as it was written; files that were added may be there.

    A folder without digests, as earlier versions wrote them, passes with a warning.

    Args:
        folder: a folder that may have digests.
        largest: of larger files [bytes] only the size is checked; None reads them all.

    Raises:
        InputError: files are missing, or differ; the message names them.
    """
    # A link that leads nowhere is damage.
    if not os.path.lexists(folder / DIGESTS):
        _logger.warning(
            "%s has no %s, so damage would not be noticed; `python -m pi0_jax.check --renew %s` "
            "makes it",
            *(folder, DIGESTS, folder),
        )
        return
    if changed := differing(folder, largest=largest):
        for name in changed:
            check_file(folder / name)
        raise InputError(
            f"{folder}: damaged, or changed since it was written: {some(changed, 3)}; copy it "
            f"again, or, if you made the change, run `python -m pi0_jax.check --renew {folder}`"
        )


def differing(folder: Path, *, largest: int | None = None) -> list[str]:
    """Names of the files in `digests.json` that are missing or not as they were written.

    Raises:
        InputError: `digests.json` itself is damaged.
    """
    files = _read(folder)

    def differs(name: str) -> bool:
        size, digest = files[name]
        path = file_inside(folder, name, str(folder / DIGESTS))
        if not path.is_file() or path.stat().st_size != size:
            return True
        return (largest is None or size <= largest) and crc32(path) != digest

    with ThreadPoolExecutor(_THREADS) as threads:
        found = list(threads.map(differs, files))
    return [name for name, wrong in zip(files, found, strict=True) if wrong]


def listed(folder: Path) -> list[str]:
    """Names of the files in `digests.json`, relative to the folder.

    Raises:
        InputError: `digests.json` is damaged.
    """
    return list(_read(folder))


def crc32(path: Path, size: int | None = None) -> str:
    """Eight hex digits: the CRC-32 of a file, or of its first `size` bytes."""
    digest, left = 0, path.stat().st_size if size is None else size
    with path.open("rb") as file:
        while block := file.read(min(_BLOCK, left)):
            digest, left = zlib_ng.crc32(block, digest), left - len(block)
    return f"{digest:08x}"


def _files(folder: Path) -> Iterator[Path]:
    for path in below(folder):
        if path.is_file() and path != folder / DIGESTS:
            yield path


def _read(folder: Path) -> dict[str, tuple[int, str]]:
    path = folder / DIGESTS
    try:
        found = read_object(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {first_line(error)}") from error
    files = found.get("files")
    if found.get("algorithm") != _ALGORITHM or not isinstance(files, dict) or not files:
        raise InputError(f"{path}: damaged: expected digests of the kind {_ALGORITHM!r}")
    for name, entry in files.items():
        if not (isinstance(entry, list) and len(entry) == 2):
            raise InputError(f"{path}: damaged: expected size and digest of {name!r}")
    return {name: (entry[0], entry[1]) for name, entry in files.items()}
