"""What a disk may hold after a power cut, worked out from recorded changes.

A file system keeps names (the entries of folders) and bytes (of files) in memory, and brings both
to the disk later, in an order of its own, unless it is asked to wait: an fsync of a file for its
bytes, of a folder for its entries. `Disk` replays changes and says which tree is there if the power
fails now, for one of several such orders.
"""

import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from torture.recorder import Change, Kind

Tree = dict[str, bytes | None]
"""Path relative to the root -> content; None for a folder."""


class Order(Enum):
    """What a disk has kept of changes that nobody waited for."""

    ALL = "everything, as after kill -9"
    SYNCED = "only what was waited for"
    NAMES_FIRST = "all names, and of bytes what was waited for"
    ZEROS = "all names and sizes; other bytes than those waited for are zero"
    BYTES_FIRST = "all bytes, and of names what was waited for"
    MIXED = "of each file and folder a part of its changes, drawn at random; the last write is torn"


_NOTHING_DRAWN = random.Random(0)
POWER_CUTS = tuple(order for order in Order if order is not Order.ALL)


@dataclass(eq=False)
class File:
    """A file: its bytes in memory, on the disk, and the writes between both.

    Attributes:
        now: bytes as a process sees them.
        kept: bytes that were waited for.
        pending: (offset, data) since then; data None cuts the file at the offset.
        writes: how many there were.
        syncs: how often they were waited for.
    """

    now: bytearray = field(default_factory=bytearray)
    kept: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    writes: int = 0
    syncs: int = 0
    _copy: bytes | None = None

    def version(self, order: Order) -> Hashable:
        """Equal while the content after a power cut is."""
        kept = order in (Order.SYNCED, Order.NAMES_FIRST)
        return id(self), self.syncs * (order is not Order.ALL), self.writes * (not kept)

    def write(self, offset: int, data: bytes | None) -> None:
        """One more write, or cut."""
        self.writes += 1
        self._copy = None
        _write(self.now, offset, data)
        self.pending.append((offset, data))

    def sync(self) -> None:
        """All bytes are on the disk."""
        if self.pending:
            self.syncs += 1
            self.kept, self.pending = self.whole(), []

    def whole(self) -> bytes:
        """The bytes as a process sees them; one copy for all trees."""
        if self._copy is None:
            self._copy = bytes(self.now)
        return self._copy

    def content(self, order: Order, draw: random.Random) -> bytes:
        """The bytes after a power cut."""
        if not self.pending or order in (Order.ALL, Order.BYTES_FIRST):
            return self.whole()
        if order in (Order.SYNCED, Order.NAMES_FIRST):
            return self.kept
        if order is Order.ZEROS:
            kept = self.kept[: len(self.now)]
            return kept + bytes(len(self.now) - len(kept))
        found = bytearray(self.kept)
        count = draw.randint(0, len(self.pending))
        for offset, data in self.pending[:count]:
            _write(found, offset, data)
        if count < len(self.pending):
            offset, data = self.pending[count]
            if data:
                _write(found, offset, data[: draw.randint(0, len(data))])
        return bytes(found)


@dataclass(eq=False)
class Folder:
    """A folder: its entries in memory, on the disk, and the changes between both.

    Attributes:
        now: entries as a process sees them.
        kept: entries that were waited for.
        pending: since then, entries that changed at once; None for one that is gone.
    """

    now: dict[str, "Node"] = field(default_factory=dict)
    kept: dict[str, "Node"] = field(default_factory=dict)
    pending: list[dict[str, "Node | None"]] = field(default_factory=list)

    def put(self, **entries: "Node | None") -> None:
        """Adds, replaces or removes entries in one step."""
        _put(self.now, entries)
        self.pending.append(entries)

    def sync(self) -> None:
        """All entries are on the disk."""
        self.kept, self.pending = dict(self.now), []

    def entries(self, order: Order, draw: random.Random) -> dict[str, "Node"]:
        """The entries after a power cut."""
        if order in (Order.SYNCED, Order.BYTES_FIRST):
            return self.kept
        if order is not Order.MIXED:
            return self.now
        found = dict(self.kept)
        for entries in self.pending[: draw.randint(0, len(self.pending))]:
            _put(found, entries)
        return found


Node = File | Folder


class Disk:
    """A root folder, which is on the disk with what it held before the first change."""

    def __init__(self, root: Path, before: Tree | None = None) -> None:
        """Begins with a tree that is wholly on the disk."""
        self._prefix, self._root = f"{root.resolve()}/", Folder()
        for path, content in sorted((before or {}).items()):
            parent, name = self._parent(self._prefix + path)
            parent.put(**{name: Folder() if content is None else File(bytearray(content), content)})
        _sync_all(self._root)

    def apply(self, change: Change) -> None:
        """Replays one change."""
        kind = change.kind
        if kind is Kind.SYNC:
            self._node(change.path).sync()
            return
        if kind in (Kind.WRITE, Kind.TRUNCATE):
            file = self._node(change.path)
            assert isinstance(file, File)
            file.write(change.value, change.data if kind is Kind.WRITE else None)
            return
        folder, name = self._parent(change.path)
        if kind in (Kind.CREATE, Kind.MKDIR):
            folder.put(**{name: File() if kind is Kind.CREATE else Folder()})
        elif kind in (Kind.UNLINK, Kind.RMDIR):
            folder.put(**{name: None})
        elif kind in (Kind.RENAME, Kind.LINK):
            self._rename(folder, name, change)
        else:
            raise ValueError(f"cannot replay {kind.name} of {change.path}")

    def tree(self, order: Order, seed: int = 0) -> Tree:
        """What is there if the power fails now; `seed` draws what `MIXED` keeps."""
        return dict(_walk(self._root, "", order, random.Random(seed)))

    def key(self, order: Order, hidden: Callable[[str], bool], seed: int) -> Hashable:
        """Equal for equal trees of this disk, without the content of what is hidden."""
        if order is Order.MIXED:
            return seed
        return frozenset(_keys(self._root, "", order, hidden))

    def _rename(self, folder: Folder, name: str, change: Change) -> None:
        node, (target, new) = folder.now[name], self._parent(change.other)
        if change.kind is Kind.LINK:
            target.put(**{new: node})
        elif target is folder:
            folder.put(**{name: None, new: node})
        else:
            target.put(**{new: node})
            folder.put(**{name: None})

    def _parent(self, path: str) -> tuple[Folder, str]:
        above, _, name = path.rpartition("/")
        folder = self._node(above)
        assert isinstance(folder, Folder), path
        return folder, name

    def _node(self, path: str) -> Node:
        node: Node = self._root
        for name in path.removeprefix(self._prefix.rstrip("/")).split("/"):
            if name:
                assert isinstance(node, Folder), path
                node = node.now[name]
        return node


@dataclass(frozen=True)
class Cut:
    """A state in which a disk may be when the power fails, or the process is killed.

    Attributes:
        number: how many changes had been made.
        tree: what is on the disk.
        whole: what a process saw in that moment.
        alike: how many moments leave this state, but for what nobody reads.
    """

    number: int
    tree: Tree
    whole: Tree
    alike: int


def cuts(
    root: Path,
    changes: Sequence[Change],
    order: Order,
    hidden: Callable[[str], bool],
    before: Tree | None = None,
) -> list[Cut]:
    """All states before a change and after the last; those that differ in what is hidden are one.

    Args:
        root: folder of which changes were recorded.
        changes: the changes.
        order: what the disk has kept.
        hidden: whether a name is that of something which nobody reads.
        before: what lay in the folder before the first change.
    """
    disk, prefix = Disk(root, before), f"{root.resolve()}/"
    found: dict[Hashable, Cut] = {}
    key: Hashable = None
    for number in range(len(changes) + 1):
        change = changes[number - 1] if number else None
        # What happens below a hidden folder shows only when it gets another name.
        if change is None or key is None or not _all_hidden(prefix, change, hidden):
            key = disk.key(order, hidden, number)
        if key not in found:
            found[key] = Cut(number, disk.tree(order, number), disk.tree(Order.ALL), 0)
        # Without a wait nothing changes but by a change.
        if order is not Order.ALL or change is None or change.kind is not Kind.SYNC:
            found[key] = replace(found[key], alike=found[key].alike + 1)
        if number < len(changes):
            disk.apply(changes[number])
    return sorted(found.values(), key=lambda cut: cut.number)


def _all_hidden(prefix: str, change: Change, hidden: Callable[[str], bool]) -> bool:
    """Whether a change is made strictly below a hidden folder."""
    paths = [path for path in (change.path, change.other) if path]
    parts = [path.removeprefix(prefix).split("/")[:-1] for path in paths]
    return all(any(map(hidden, above)) for above in parts)


def read_tree(folder: Path) -> Tree:
    """A folder's files and subfolders; links are followed."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def write_tree(folder: Path, tree: Tree) -> None:
    """Makes a folder that holds a tree."""
    folder.mkdir(parents=True)
    for path, content in tree.items():
        if content is None:
            (folder / path).mkdir(parents=True, exist_ok=True)
        else:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)


def _walk(
    folder: Folder, prefix: str, order: Order, draw: random.Random
) -> Iterator[tuple[str, bytes | None]]:
    for name, node in folder.entries(order, draw).items():
        if isinstance(node, File):
            yield prefix + name, node.content(order, draw)
        else:
            yield prefix + name, None
            yield from _walk(node, f"{prefix}{name}/", order, draw)


def _keys(
    folder: Folder, prefix: str, order: Order, hidden: Callable[[str], bool]
) -> Iterator[Hashable]:
    # `MIXED` has no keys, so nothing is drawn.
    for name, node in folder.entries(order, _NOTHING_DRAWN).items():
        if isinstance(node, File):
            yield prefix + name, None if hidden(name) else node.version(order)
        else:
            yield prefix + name, None
            if not hidden(name):
                yield from _keys(node, f"{prefix}{name}/", order, hidden)


def _write(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


def _put(entries: dict[str, Node], changed: dict[str, Node | None]) -> None:
    for name, node in changed.items():
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


def _sync_all(node: Node) -> None:
    node.sync()
    if isinstance(node, Folder):
        for child in node.now.values():
            _sync_all(child)
