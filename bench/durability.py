"""What fsync and digests cost: a share of an RL iteration, and ratios of conversions and loads.

In an RL iteration a thread does them while training goes on; "waiting" is what training waits.

python bench/durability.py [--folder TMP] [--layers 4] [--pairs 5] [--only PART] [CONFIG FLAGS ...]

An RL iteration of the demo (Lift; fewer rollouts and updates than the demo has, so the share of the
one checkpoint is larger than there), a conversion of a random checkpoint of half pi0's width, and
loads of what it gives, with digests checked and not. The disk is that of --folder: not one in
memory. --only names one of the three.
"""

import argparse
import contextlib
import dataclasses
import io
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
from conversion import make_checkpoint

from pi0_jax.apps import cli
from pi0_jax.apps import train as train_app
from pi0_jax.convert.commands import torch_to_flax
from pi0_jax.io import atomic, episodes
from pi0_jax.model.config import ExpertConfig, Pi0Config, pi0
from pi0_jax.policy import folder as policies
from pi0_jax.rl import stored_loop
from pi0_jax.training import checkpoint
from pi0_jax.training.saver import Saver

_RL = (
    "--config=demo",
    "--config.demonstrations.episodes=8",
    "--config.sft.steps=10",
    "--config.rl.iterations=2",
    "--config.rl.updates_per_iteration=20",
    "--config.rl.groups.groups_per_iteration=4",
    "--config.rl.groups.max_groups=4",
    "--config.rl.groups.dynamic_sampling=False",
    "--config.eval.episodes=2",
    "--config.eval.videos=0",
    "--config.eval.guidance=(1.0,)",
)


class Clock:
    """Seconds by name, of calls that are wrapped: wall time, and CPU time of this process."""

    def __init__(self) -> None:
        """All are zero."""
        self.seconds: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its seconds noted under a name."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            start, cpu = time.monotonic(), time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name] = self.seconds.get(name, 0) + time.monotonic() - start
                self.cpu[name] = self.cpu.get(name, 0) + time.process_time() - cpu

        return timed

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """A block in which fsync and digests are timed."""
        patched: list[tuple[Any, str, str]] = [
            (os, "fsync", "fsync"),
            (atomic, "write_digests", "digests"),
            (checkpoint, "write_digests", "digests"),
            (episodes, "add_digest", "digests"),
            (Saver, "save", "waiting"),
        ]
        with contextlib.ExitStack() as stack:
            for module, name, label in patched:
                wrapped = self.wrap(label, getattr(module, name))
                stack.enter_context(mock.patch.object(module, name, wrapped))
            yield


def main() -> None:
    """Prints the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", help="where to make the temporary folder")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", choices=["rl", "conversion", "load"])
    args, flags = parser.parse_known_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        print(f"load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores")
        if args.only in (None, "rl"):
            rl_iteration(Path(name) / "run", tuple(flags))
        if args.only == "rl":
            return
        size = make_checkpoint(Path(name) / "source", smaller(pi0(), args.layers))
        # Whatever is read or compiled once.
        converted(Path(name))
        if args.only in (None, "conversion"):
            conversion(Path(name), size, args.pairs)
        if args.only in (None, "load"):
            loading(Path(name) / "policy", size, args.pairs)


def rl_iteration(run: Path, flags: tuple[str, ...]) -> None:
    """The second of two iterations: the first compiles."""
    arguments = cli.parse(["train.py", *_RL, *flags, f"--workdir={run}"])
    clocks: list[Clock] = []
    inner = stored_loop._iterate

    def iterate(*args: Any) -> Any:
        clocks.append(Clock())
        with clocks[-1].running():
            state = clocks[-1].wrap("whole", inner)(*args)
            # What is written in the background is part of the iteration's cost.
            args[0].store._saver.wait()
        return state

    quiet = contextlib.redirect_stderr(io.StringIO())
    with mock.patch.object(stored_loop, "_iterate", iterate), quiet:
        train_app.main(arguments)
    show("RL iteration", clocks[-1])


def conversion(folder: Path, size: int, pairs: int) -> None:
    """Conversions with and without fsync and digests, in turn: what is overlapped has no clock."""
    ratios = np.array([_pair(folder, number) for number in range(pairs)])
    for name, column in zip(("wall", "CPU"), ratios.T, strict=True):
        each = ", ".join(f"{ratio - 1:+.1%}" for ratio in column)
        median = np.median(column) - 1
        print(f"conversion of {size / 1e9:.2f} GB, {name}: {median:+.1%} (median of {each})")


def _pair(folder: Path, number: int) -> tuple[float, float]:
    """Wall and CPU seconds with fsync and digests, as shares of those without."""
    # In turn first: on a busy machine one of both meets more of the others' work.
    order = (True, False) if number % 2 else (False, True)
    found = {durable: converted(folder, durable=durable) for durable in order}
    (wall, cpu), (plain_wall, plain_cpu) = found[True], found[False]
    print(f"  {wall:.2f} s against {plain_wall:.2f}, CPU {cpu:.2f} s against {plain_cpu:.2f}")
    return wall / plain_wall, cpu / plain_cpu


def converted(folder: Path, *, durable: bool = True) -> tuple[float, float]:
    """Wall and CPU seconds of one conversion, in this process."""
    arguments = [str(folder / "source"), str(folder / "policy")]
    shutil.rmtree(folder / "policy", ignore_errors=True)
    os.sync()  # what an earlier one left to be written
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        if not durable:
            nothing = contextlib.nullcontext({})
            for module, name, value in (
                (os, "fsync", lambda descriptor: None),
                (atomic, "settling", lambda folder: nothing),
                (atomic, "write_digests", lambda folder, digest: None),
            ):
                stack.enter_context(mock.patch.object(module, name, value))
        start, cpu = time.monotonic(), time.process_time()
        torch_to_flax.main(arguments)
        return time.monotonic() - start, time.process_time() - cpu


def loading(policy: Path, size: int, pairs: int) -> None:
    """Loads of one policy with its digests checked and not, in turn."""
    _loaded(policy, checked=True)  # from now on in memory
    ratios = []
    for _ in range(pairs):
        checked, plain = (_loaded(policy, checked=one) for one in (True, False))
        print(f"  {checked:.2f} s against {plain:.2f}")
        ratios.append(checked / plain)
    print(f"load of {size / 1e9:.2f} GB: {np.median(ratios):.2f} times that without digests")


def _loaded(policy: Path, *, checked: bool) -> float:
    """Wall seconds of one load."""
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        if not checked:
            unchecked = mock.patch.object(policies, "check_digests", lambda *_, **__: None)
            stack.enter_context(unchecked)
        policies.load_policy(policy)
    return time.monotonic() - start


def smaller(config: Pi0Config, layers: int) -> Pi0Config:
    """Half the width, whose depth is free; the image tower is that of pi0."""
    return dataclasses.replace(config, depth=layers, vlm=ExpertConfig(1024, 8192))


def show(what: str, clock: Clock) -> None:
    """One line per clock: seconds, and the share of each part."""
    for kind, seconds in (("wall", clock.seconds), ("CPU", clock.cpu)):
        whole = seconds["whole"]
        parts = {name: seconds.get(name, 0.0) for name in ("fsync", "digests", "waiting")}
        text = ", ".join(f"{name} {s:.3f} s ({s / whole:.1%})" for name, s in parts.items())
        both = (parts["fsync"] + parts["digests"]) / whole
        print(f"{what}: {whole:.2f} s {kind}; {text}; fsync and digests {both:.1%}")


if __name__ == "__main__":
    sys.exit(main())
