"""Reads the text of a compiled program: its operations, and how often each of them runs.

The text is what `Compiled.as_text()` gives: computations of operations, of which loops, branches,
calls and fusions name others. One computation is `ENTRY`.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

SIZES = {
    **dict.fromkeys(("pred", "s8", "u8", "f8e4m3fn", "f8e5m2"), 1),
    **dict.fromkeys(("s16", "u16", "bf16", "f16"), 2),
    **dict.fromkeys(("s32", "u32", "f32"), 4),
    **dict.fromkeys(("s64", "u64", "f64"), 8),
}
"""Bytes of an element by its type in HLO."""

COLLECTIVES = (
    *("all-gather", "all-reduce", "reduce-scatter", "all-to-all"),
    *("collective-permute", "ragged-all-to-all", "collective-broadcast"),
)
_ARRAY = re.compile(rf"\b({'|'.join(SIZES)})\[([0-9,]*)\]")
# In the order in which branches are numbered: false is 0.
_CALLS = ("calls", "to_apply", "body", "false_computation", "true_computation")


@dataclass(frozen=True, eq=False)
class Operation:
    """One line of the text.

    Attributes:
        name: its name within the computation.
        kind: such as "fusion", "dot" or "all-gather".
        type: type of the result, such as "bf16[2,3]{1,0}", or a tuple of them.
        operands: names of the operations that it reads; of a constant or parameter what the
            brackets hold.
        rest: what follows the operands.
        is_root: whether it is the computation's result.
    """

    name: str
    kind: str
    type: str
    operands: tuple[str, ...]
    rest: str
    is_root: bool

    def called(self) -> list[str]:
        """Computations that it runs, a loop's condition left out; branches in their order."""
        found = [self.attribute(rf"\b{key}=%?([\w.\-]+)") for key in _CALLS]
        found = [name for name in found if name]
        if branches := re.search(r"branch_computations=\{([^}]*)\}", self.rest):
            found += [name.strip().lstrip("%") for name in branches.group(1).split(",")]
        return found

    def attribute(self, pattern: str) -> str | None:
        """The first group of a pattern in what follows the operands."""
        found = re.search(pattern, self.rest)
        return found.group(1) if found else None


Computation = dict[str, Operation]


@dataclass(frozen=True)
class Program:
    """All computations by name, and the name of the first one to run."""

    computations: dict[str, Computation]
    entry: str


@dataclass(frozen=True)
class Run:
    """An operation of a program, in its computation, and how often the program runs it."""

    times: float
    operation: Operation
    computation: Computation


def shapes(type_: str) -> list[tuple[str, tuple[int, ...]]]:
    """Element type and shape of every array in the type of a result."""
    found = _ARRAY.findall(type_)
    return [(kind, tuple(int(n) for n in dims.split(",") if n)) for kind, dims in found]


def size(type_: str) -> int:
    """Bytes of all arrays in the type of a result."""
    return sum(SIZES[kind] * math.prod(shape) for kind, shape in shapes(type_))


def parse(text: str) -> Program:
    """Reads a program.

    Raises:
        ValueError: the text has no `ENTRY`.
    """
    computations: dict[str, Computation] = {}
    entry, current = None, {}
    for line in text.splitlines():
        if head := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*->.*\{\s*$", line):
            current = computations[head.group(2)] = {}
            entry = head.group(2) if head.group(1) else entry
        elif operation := _operation(line):
            current[operation.name] = operation
    if entry is None:
        raise ValueError("expected the text of a compiled program, got one without ENTRY")
    return Program(computations, entry)


def runs(program: Program, unknown_trips: int) -> Iterator[Run]:
    """Every operation that is not inside a fusion, with the number of its runs.

    Args:
        program: from `parse`.
        unknown_trips: turns of a loop whose number is not a constant of the program.
    """
    yield from _runs(program, program.entry, 1.0, 1, unknown_trips)


def collective(operation: Operation) -> str | None:
    """The kind of a collective, asynchronous or not, where it starts; None for all else."""
    kind = operation.kind.removesuffix("-start")
    return kind if kind in COLLECTIVES else None


def collective_bytes(program: Program, unknown_trips: int = 1) -> dict[str, float]:
    """Bytes of collectives on one device by kind: of the larger of what goes in and comes out."""
    of_channel: dict[str, tuple[str, float]] = {}
    for run in runs(program, unknown_trips):
        for operation, computation in _with_fused(program, run):
            if kind := collective(operation):
                read = [computation.get(name) for name in operation.operands]
                given = sum(size(x.type) for x in read if x)
                out = size(operation.type)
                # The result of a start holds its operands as well.
                if operation.kind.endswith("-start") and operation.type.startswith("("):
                    out -= given
                # A TPU's compiler spreads one collective over several fusions, all of one channel.
                channel = operation.attribute(r"channel_id=(\d+)") or f"{id(operation)}"
                _, known = of_channel.get(channel, ("", 0.0))
                of_channel[channel] = kind, max(known, run.times * max(given, out))
    found: dict[str, float] = {}
    for kind, moved in of_channel.values():
        found[kind] = found.get(kind, 0.0) + moved
    return found


def _with_fused(program: Program, run: Run) -> Iterator[tuple[Operation, Computation]]:
    """An operation, and those inside it if it is a fusion, each with its computation."""
    yield run.operation, run.computation
    if run.operation.kind == "fusion":
        for name in run.operation.called():
            body = program.computations[name]
            yield from ((inner, body) for inner in body.values())


def _runs(program: Program, name: str, times: float, trips: int, unknown: int) -> Iterator[Run]:
    computation = program.computations[name]
    for operation in computation.values():
        match operation.kind:
            case "while":
                known = operation.attribute(r'"known_trip_count":\{"n":"(\d+)"')
                turns = int(known) if known else unknown
                (body,) = operation.called()
                yield from _runs(program, body, times * turns, turns, unknown)
            case "conditional":
                # `scan_layers` takes the last branch for its last layer, the first for all others.
                *others, last = operation.called()
                shares = {last: 1 / trips} | {other: (trips - 1) / trips for other in others}
                for branch, share in shares.items():
                    yield from _runs(program, branch, times * share, trips, unknown)
            case "call" | "async-start":
                for inner in operation.called():
                    yield from _runs(program, inner, times, trips, unknown)
            case _:
                yield Run(times, operation, computation)


def _operation(line: str) -> Operation | None:
    head = re.match(r"\s+(ROOT )?%?([\w.\-]+) = (.*)$", line)
    if not head:
        return None
    type_, rest = _type(head.group(3))
    kind = re.match(r"([\w\-]+)\(", rest)
    if not kind:
        return None
    inner, after = _bracketed(rest[kind.end() - 1 :])
    name = kind.group(1)
    plain = name in ("parameter", "constant")
    operands = (inner,) if plain else tuple(re.findall(r"%([\w.\-]+)", inner))
    return Operation(head.group(2), name, type_, operands, after, bool(head.group(1)))


def _type(text: str) -> tuple[str, str]:
    """The type in front of an operation, and what follows it."""
    if text.startswith("("):
        inner, rest = _bracketed(text)
        return f"({inner})", rest.strip()
    type_, _, rest = text.partition(" ")
    return type_, rest


def _bracketed(text: str) -> tuple[str, str]:
    """What stands inside the brackets that `text` begins with, and behind them."""
    depth = 0
    for at, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return text[1:at], text[at + 1 :]
    return text[1:], ""
