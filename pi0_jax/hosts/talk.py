"""What the processes of a run tell each other; where there is one, all of it is the identity.

All processes run the same program on the same input. Each does its `share` of what can be done
apart, and gives the outcome to all (`gather`), so that everything that follows is computed alike.
Host 0 alone reads and writes the run folder, and tells what the others must know of it (`first`).
So every function here is called by all hosts, in the same order.

Small values go through the store of jax's coordinator, large ones through the network of the
devices. Values are JSON, bytes or arrays: nothing is unpickled.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

T = TypeVar("T")

# Bytes that go through the coordinator, which keeps them in its memory; and of one piece of more.
_SMALL, _PIECE = 2**16, 2**26
# Seconds from one look for the others' values to the next: little where they come at once.
_SHORTEST, _LONGEST, _GROWTH = 0.0005, 0.05, 1.3


class HostEndedError(RuntimeError):
    """Another host of this run has ended, and so must this one.

    Attributes:
        host: its number.
        code: its exit code.
        reason: why it ended.
    """

    def __init__(self, host: int, code: int, reason: str):
        super().__init__(f"host {host} has ended: {reason}")
        self.host, self.code, self.reason = host, code, reason


@dataclass
class Group:
    """The processes of a run, seen from one of them.

    Attributes:
        index: number of this process.
        count: number of processes.
        client: jax's, of the coordinator; None where there is one process.
        ended: of the first other process that was seen to end.
        exchanges: how many there were.
    """

    index: int = 0
    count: int = 1
    client: Any = None
    ended: HostEndedError | None = None
    exchanges: int = 0


group = Group()
"""Of this process; `joining.joined` fills it in."""


def count() -> int:
    """Number of processes."""
    return group.count


def leads() -> bool:
    """Whether this is host 0."""
    return group.index == 0


def share(items: Sequence[T]) -> list[T]:
    """This host's part of what all know: every n-th, so that hosts have tasks of every kind."""
    return list(items[group.index :: group.count])


def in_order(parts: Sequence[Sequence[T]]) -> list[T]:
    """What all hosts made of their shares, in the order of the whole."""
    most = max(map(len, parts))
    return [part[i] for i in range(most) for part in parts if i < len(part)]


def gather(own: Any) -> list[Any]:
    """A JSON value of every host."""
    if group.count == 1:
        return [own]
    return [json.loads(text) for text in gather_bytes(json.dumps(own).encode())]


def agree(wish: bool) -> bool:
    """Whether any host wishes it."""
    return any(gather(wish))


def barrier() -> None:
    """Waits for all hosts."""
    gather(None)


def first(make: Callable[[], T]) -> T:
    """The JSON value of host 0, which alone makes it."""
    if group.count == 1:
        return make()
    return json.loads(first_bytes(lambda: json.dumps(make()).encode()))


def gather_bytes(own: bytes) -> list[bytes]:
    """Bytes of every host."""
    if group.count == 1:
        return [own]
    found, sizes = _exchanged(own)
    if max(sizes) <= _SMALL:
        return found
    parts = [bytearray() for _ in sizes]
    for piece in _pieces(own, max(sizes)):
        for part, row in zip(parts, multihost_utils.process_allgather(piece), strict=True):
            part += row.tobytes()
    return [bytes(part[:size]) for part, size in zip(parts, sizes, strict=True)]


def first_bytes(make: Callable[[], bytes]) -> bytes:
    """Bytes of host 0, which alone makes them."""
    own = make() if leads() else b""
    if group.count == 1:
        return own
    found, sizes = _exchanged(own)
    if sizes[0] <= _SMALL:
        return found[0]
    whole = bytearray()
    for piece in _pieces(own, sizes[0]):
        whole += multihost_utils.broadcast_one_to_all(piece).tobytes()
    return bytes(whole[: sizes[0]])


def first_tree(tree: Any) -> Any:
    """Host 0's tree of arrays, on the host, for trees of the same structure on all hosts.

    Args:
        tree: arrays on host 0; elsewhere the leaves may be anything.
    """
    if group.count == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(structure, map(_first_array, leaves))


def _first_array(leaf: Any) -> np.ndarray:
    shape, dtype = first(lambda: (np.shape(leaf), np.dtype(leaf.dtype).name))
    values = first_bytes(lambda: np.asarray(leaf).tobytes())
    return np.frombuffer(values, np.dtype(dtype)).reshape(shape)


def _exchanged(own: bytes) -> tuple[list[bytes], list[int]]:
    """The bytes of every host where they are few, and their number.

    Nobody waits in the devices' network before this, which has a time limit, and which no signal
    interrupts.

    Raises:
        HostEndedError: one has ended.
    """
    own_bytes = own if len(own) <= _SMALL else b""
    number, group.exchanges = group.exchanges, group.exchanges + 1
    told = {}
    tell(f"{number}/{group.index}", len(own).to_bytes(8) + own_bytes)
    pauses = _pauses()
    while len(told) < group.count:
        if group.ended:
            raise group.ended
        told = {int(host): value for host, value in heard(f"{number}/").items()}
        time.sleep(next(pauses) if len(told) < group.count else 0)
    # All are here, so all have read the exchange before.
    if number:
        group.client.key_value_delete(f"{_KEYS}{number - 1}/{group.index}")
    values = [told[host] for host in range(group.count)]
    return [value[8:] for value in values], [int.from_bytes(value[:8]) for value in values]


_KEYS = "pi0_jax/"


def tell(key: str, value: bytes) -> None:
    """Puts a value where all hosts find it."""
    group.client.key_value_set_bytes(f"{_KEYS}{key}", value)


def heard(folder: str) -> dict[str, bytes]:
    """What was told under keys that begin with "folder/", by what follows."""
    found = group.client.key_value_dir_get_bytes(f"{_KEYS}{folder}")
    return {key.rpartition("/")[2]: value for key, value in found}


def _pauses() -> Iterator[float]:
    pause = _SHORTEST
    while True:
        yield pause
        pause = min(_GROWTH * pause, _LONGEST)


def _pieces(own: bytes, size: int) -> Iterator[np.ndarray]:
    """Bytes as uint8 arrays of one size, filled up with zeros, as many as `size` bytes need.

    Their size is a power of two, so that few programs are compiled.
    """
    length = min(_PIECE, 1 << (size - 1).bit_length())
    for start in range(0, size, length):
        piece = np.zeros(length, np.uint8)
        part = own[start : start + length]
        piece[: len(part)] = np.frombuffer(part, np.uint8)
        yield piece
