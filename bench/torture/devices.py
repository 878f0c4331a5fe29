"""A run that comes back on another machine: other devices, workers, memory, paths of the same."""

import json
import signal
from collections.abc import Iterator

from torture.ground import RUN, Ground, Row
from torture.moments import Change
from torture.recorder import Kind

_TWO = "--xla_force_host_platform_device_count=2"
_AT = Change("run/checkpoints/.4.pi0_jax-partial", Kind.MKDIR)
MOVES = {
    "two devices": ("--config.hardware.fsdp=2",),
    "micro-batches": ("--config.hardware.micro_batches=2",),
    "more workers, another timeout": ("--config.pool.workers=2", "--config.pool.timeout_s=99"),
    "remat, memory": ("--config.hardware.remat=full", "--config.hardware.memory_gb=4"),
    "verbosity, no videos": ("--config.verbosity=2", "--config.eval.videos=0"),
}


def moved(ground: Ground, moves: tuple[str, ...] = tuple(MOVES)) -> Iterator[Row]:
    """Killed in SFT, resumed with other settings of the kind that results do not depend on."""
    wrong = []
    for name in moves:
        ground.meet(_AT, signal=signal.SIGKILL)
        flags = {"XLA_FLAGS": _TWO} if "two" in name else {}
        ended = ground.train("--resume", *MOVES[name], **flags)
        if ended.code:
            wrong.append(f"{name}: exit {ended.code}: {ended.last}")
            continue
        found, wanted = (
            json.loads((root / RUN / "results.json").read_text())["rows"]
            for root in (ground.root, ground.wanted)
        )
        rows = [[(row["method"], row["guidance"]) for row in one] for one in (found, wanted)]
        wrong += [] if rows[0] == rows[1] else [f"{name}: other rows"]
    yield Row("resumed with other devices, workers, memory", len(moves), wrong)
