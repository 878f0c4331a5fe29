"""What the kernels of a compiled program read, write and multiply, and the least time they need.

A kernel's bytes are its operands and its result; of an operand that it only slices they are the
slice, of a result that it updates in place the update. So neither a cache is counted, nor what a
kernel reads twice. The bound of a program is the sum over its kernels of the longer of two times:
bytes by the bandwidth of the memory, FLOPs by the peak. It is a bound of the program as it is
compiled, not a prediction: starts of kernels, and collectives beyond their bytes, take time too.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import hlo
from hlo import Computation, Operation, Program

_FREE = {
    *("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "iota"),
    *("partition-id", "replica-id", "opt-barrier", "domain", "add-dependency", "async-done"),
    *("async-update", "copy-done", "send", "recv", "send-done", "recv-done"),
    *(f"{kind}-done" for kind in hlo.COLLECTIVES),
}
_SLICES = ("dynamic-slice", "slice", "gather")
_SAME_VALUES = ("bitcast", "reshape", "copy")
_UPDATE = "dynamic-update-slice"
# Scratch space of cuBLAS, which is part of a product's result and hardly touched.
_SCRATCH = re.compile(r"s8\[\d+\]")
_DEEP = 6  # operations behind each other inside a fusion that are followed


@dataclass(frozen=True)
class Cost:
    """Of a program, on one device.

    Attributes:
        kernels: kernels that are started.
        bytes: read and written.
        flops: of products of matrices.
        seconds: the bound.
        collectives: bytes that collectives move.
    """

    kernels: float
    bytes: float
    flops: float
    seconds: float
    collectives: float


def cost(program: Program, bandwidth: float, peak: float, unknown_trips: int) -> Cost:
    """The cost of a program.

    Args:
        program: from `hlo.parse`.
        bandwidth: of the memory [bytes/s].
        peak: FLOP/s of bfloat16 products; float32 ones count twice.
        unknown_trips: turns of a loop whose number is not a constant of the program.
    """
    kernels = moved = multiplied = seconds = 0.0
    for run in hlo.runs(program, unknown_trips):
        if run.operation.kind in _FREE:
            continue
        size = _bytes(program, run.operation, run.computation)
        flops, of_peak = _flops(program, run.operation, run.computation)
        kernels += run.times
        moved += run.times * size
        multiplied += run.times * flops
        seconds += run.times * max(size / bandwidth, of_peak / peak)
    collectives = sum(hlo.collective_bytes(program, unknown_trips).values())
    return Cost(kernels, moved, multiplied, seconds, collectives)


def _bytes(program: Program, operation: Operation, computation: Computation) -> float:
    if operation.kind == "fusion":
        (body,) = operation.called()
        return _fusion_bytes(operation, computation, program.computations[body])
    given = [computation[name] for name in operation.operands if name in computation]
    if operation.kind == "dynamic-slice":
        return 2 * hlo.size(operation.type)
    if operation.kind == _UPDATE:
        return 2 * hlo.size(given[1].type)
    if hlo.collective(operation):
        return hlo.size(operation.type)
    return sum(_size(x.type) for x in given) + _size(operation.type)


def _size(type_: str) -> int:
    return hlo.size(_SCRATCH.sub("", type_))


def _fusion_bytes(operation: Operation, computation: Computation, body: Computation) -> float:
    parameters = {int(x.operands[0]): x.name for x in body.values() if x.kind == "parameter"}
    total = 0
    for number, name in enumerate(operation.operands):
        whole = hlo.size(computation[name].type) if name in computation else 0
        part = _read(body, parameters[number]) if number in parameters else None
        total += whole if part is None else min(whole, part)
    return total + _written(body, next(x for x in body.values() if x.is_root))


def _read(body: Computation, name: str, depth: int = 0) -> int | None:
    """Bytes that a fusion reads of a value of which it uses slices; None if it uses all of it."""
    total, users = 0, [x for x in body.values() if name in x.operands and x.kind != "parameter"]
    for user in users:
        first = user.operands[0] == name
        if user.kind in _SLICES and first:
            total += hlo.size(user.type)
        elif user.kind in _SAME_VALUES and depth < _DEEP:
            part = _read(body, user.name, depth + 1)
            if part is None:
                return None
            total += part
        elif not (user.kind == _UPDATE and first):
            return None
    return total if users else None


def _written(body: Computation, root: Operation, depth: int = 0) -> int:
    """Bytes that a fusion writes."""
    inner = [body[name] for name in root.operands if name in body]
    if root.kind == _UPDATE and len(inner) > 1:
        return hlo.size(inner[1].type)
    if root.kind == "tuple":
        return sum(_written(body, one) for one in inner)
    if root.kind in _SAME_VALUES and inner and depth < _DEEP:
        return _written(body, inner[0], depth + 1)
    return hlo.size(root.type)


def _flops(program: Program, operation: Operation, computation: Computation) -> tuple[float, float]:
    """FLOPs of all products in an operation, and the same in units of bfloat16 products."""
    total = of_peak = 0.0
    for inner, place in _products(program, operation, computation):
        left = place.get(inner.operands[0])
        if left is None:
            continue
        kind, shape = hlo.shapes(left.type)[0]
        contracted = inner.attribute(r'lhs_contracting_dim(?:s|ensions)"?[=:][{\[]([0-9,"]*)[}\]]')
        axes = [int(axis) for axis in re.findall(r"\d+", contracted or "")]
        out = hlo.shapes(inner.type)[0][1]
        flops = 2.0 * math.prod(out) * math.prod(shape[axis] for axis in axes)
        total += flops
        of_peak += flops if kind in ("bf16", "f16") else 2 * flops
    return total, of_peak


def _products(
    program: Program, operation: Operation, computation: Computation
) -> Iterator[tuple[Operation, Computation]]:
    """The products in an operation, each with the computation that it stands in."""
    target = operation.attribute(r'custom_call_target="([^"]*)"') or ""
    if operation.kind == "dot" or "gemm" in target or "matmul" in target:
        yield operation, computation
    elif operation.kind == "fusion":
        for name in operation.called():
            body = program.computations[name]
            for inner in body.values():
                yield from _products(program, inner, body)
