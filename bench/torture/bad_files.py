"""Files that are not what they should be, as tools and careless hands leave them."""

import gzip
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torture.refusals import Case

_PAGE = b"<!DOCTYPE html>\n<html><body>404: Not Found</body></html>\n"
_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:07\nsize 42\n"
_ENDLESS = 10 * 2**40  # bytes, of which a disk keeps none

Damage = Callable[[Path], object]
Reader = Callable[[Path], object]


def _content(change: Callable[[bytes], bytes]) -> Damage:
    return lambda path: path.write_bytes(change(path.read_bytes()))


def _instead(make: Damage) -> Damage:
    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


def _link_to(target: str) -> Damage:
    return _instead(lambda path: path.symlink_to(target))


def _endless(path: Path) -> None:
    path.touch()
    os.truncate(path, _ENDLESS)


DAMAGES: Mapping[str, Damage] = {
    "cut short": _content(lambda content: content[: len(content) // 2]),
    "empty": _content(lambda content: b""),
    "zeros": _content(lambda content: bytes(len(content))),
    "compressed": _content(gzip.compress),
    "a page of a web server": _content(lambda content: _PAGE),
    "a git-lfs pointer": _content(lambda content: _POINTER),
    "nested brackets": _content(lambda content: b"[" * 100_000),
    "null": _content(lambda content: b"null"),
    "gone": Path.unlink,
    "renamed by rsync": lambda path: path.rename(path.with_name(f".{path.name}.Xy12zA")),
    "in capitals": lambda path: path.rename(path.with_name(path.name.upper() + "_")),
    "a folder": _instead(Path.mkdir),
    "a pipe": _instead(os.mkfifo),
    "a device": _link_to("/dev/zero"),
    "a link to itself": lambda path: _link_to(path.name)(path),
    "a dead link": _link_to("/nowhere/at/all"),
    "ten terabytes": lambda path: os.truncate(path, _ENDLESS),
    "ten terabytes of zeros": _instead(_endless),
}


ABSENT = ("gone", "renamed by rsync", "in capitals")
"""Damages after which there is no file."""


@dataclass(frozen=True)
class Thing:
    """A sound folder, and what reads it.

    Attributes:
        name: for the table.
        path: the folder; each case damages a file of it, and puts it back.
        files: patterns of the files that are damaged; each must match one or more.
        read: reads the folder.
        harmless: damages of a pattern that change nothing, because the file need not be there.
    """

    name: str
    path: Path
    files: tuple[str, ...]
    read: Reader
    harmless: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def cases(thing: Thing, damages: Mapping[str, Damage] = DAMAGES) -> Iterator[Case]:
    """Each damage of each file; one that is yielded must be called before the next."""
    for pattern in thing.files:
        file = sorted(thing.path.glob(pattern))[0]
        content = file.read_bytes()
        for name, damage in damages.items():
            if name in thing.harmless.get(pattern, ()):
                continue
            damage(file)
            yield Case(f"{thing.name}: {pattern}: {name}", lambda: thing.read(thing.path))
            _put_back(file, content)


def _put_back(file: Path, content: bytes) -> None:
    for path in file.parent.iterdir():
        if path.name in (file.name, f".{file.name}.Xy12zA", f"{file.name.upper()}_"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    file.write_bytes(content)
