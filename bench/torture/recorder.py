"""Changes of the file system, written down while a command runs: `recorder.c`, and what it wrote.

Needs a C compiler (`cc`) and Linux; no root.
"""

import shutil
import struct
import subprocess
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

_SOURCE = Path(__file__).with_name("recorder.c")
_HEAD = struct.Struct("<5q")


class Kind(IntEnum):
    """What a call did; the numbers are those of recorder.c."""

    CREATE = 1
    WRITE = 2
    TRUNCATE = 3
    SYNC = 4
    RENAME = 5
    UNLINK = 6
    MKDIR = 7
    RMDIR = 8
    LINK = 9
    SYMLINK = 10


@dataclass(frozen=True)
class Change:
    """One call.

    Attributes:
        kind: what it did; `SYNC` of a file or a folder changes nothing.
        path: absolute path of its file.
        other: second path: the new name of RENAME and LINK; else empty.
        value: where WRITE wrote; the size that TRUNCATE left [bytes].
        data: what WRITE wrote.
    """

    kind: Kind
    path: str
    other: str
    value: int
    data: bytes


def has_compiler() -> bool:
    """Whether there is a C compiler."""
    return shutil.which("cc") is not None


def build(folder: Path) -> Path:
    """Compiles the library into a folder; returns its path, for LD_PRELOAD."""
    library = folder / "recorder.so"
    options = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    libraries = ["-ldl", "-lpthread"]
    subprocess.run(["cc", *options, "-o", library, _SOURCE, *libraries], check=True)
    return library


def settings(library: Path, root: Path, log: Path, **fault: str | int) -> dict[str, str]:
    """Environment variables of a command whose changes are recorded.

    Args:
        library: what `build` made.
        root: folder below which changes count.
        log: file to append to.
        **fault: `kind`, `part`, `signal` and `errno`, as recorder.c explains them.
    """
    values = {"LD_PRELOAD": str(library), "TORTURE_ROOT": str(root.resolve())}
    values |= {"TORTURE_LOG": str(log)}
    return values | {f"TORTURE_{name.upper()}": f"{value}" for name, value in fault.items()}


def read(log: Path) -> list[Change]:
    """All changes in a file that the library wrote, in their order."""
    content, place, changes = log.read_bytes(), 0, []
    while place < len(content):
        kind, first, second, value, size = _HEAD.unpack_from(content, place)
        place += _HEAD.size
        parts = []
        for count in (first, second, size):
            parts.append(content[place : place + count])
            place += count
        path, other, data = parts
        changes.append(Change(Kind(kind), path.decode(), other.decode(), value, data))
    return changes
