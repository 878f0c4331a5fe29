"""What fsync and digests cost, as a share of an RL iteration and of a conversion, in one run.

python bench/durability.py [--folder TMP] [--layers 4] [CONFIG FLAGS ...]

An RL iteration of the demo (Lift; fewer rollouts and updates than the demo has, so the share of the
one checkpoint is larger than there), and a conversion of a random checkpoint of pi0's width with
some of its layers. The disk is that of --folder: not one in memory.
"""

import argparse
import contextlib
import dataclasses
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from conversion import make_checkpoint

from pi0_jax.apps import cli
from pi0_jax.apps import train as train_app
from pi0_jax.convert.commands import torch_to_flax
from pi0_jax.io import atomic, episodes
from pi0_jax.model.config import Pi0Config, pi0
from pi0_jax.rl import stored_loop
from pi0_jax.training import checkpoint

_RL = (
    "--config=demo",
    "--config.demonstrations.episodes=8",
    "--config.sft.steps=10",
    "--config.rl.iterations=2",
    "--config.rl.updates_per_iteration=20",
    "--config.rl.groups.groups_per_iteration=4",
    "--config.rl.groups.max_groups=4",
    "--config.rl.groups.dynamic_sampling=False",
    "--config.baselines.continued_sft.iterations=0",
    "--config.eval.episodes=2",
    "--config.eval.videos=0",
    "--config.eval.guidance=(1.0,)",
)


class Clock:
    """Seconds by name, of calls that are wrapped."""

    def __init__(self) -> None:
        """All are zero."""
        self.seconds: dict[str, list[float]] = {}

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its seconds noted under a name."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.monotonic()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds.setdefault(name, []).append(time.monotonic() - start)

        return timed

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """A block in which fsync and digests are timed."""
        patched: list[tuple[Any, str, str]] = [
            (os, "fsync", "fsync"),
            (atomic, "write_digests", "digests"),
            (checkpoint, "write_digests", "digests"),
            (episodes, "add_digest", "digests"),
            (stored_loop, "_run_iteration", "iteration"),
        ]
        with contextlib.ExitStack() as stack:
            for module, name, label in patched:
                wrapped = self.wrap(label, getattr(module, name))
                stack.enter_context(mock.patch.object(module, name, wrapped))
            yield


def main() -> None:
    """Prints both shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", help="where to make the temporary folder")
    parser.add_argument("--layers", type=int, default=4)
    args, flags = parser.parse_known_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        print(f"load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores")
        rl_iteration(Path(name) / "run", tuple(flags))
        conversion(Path(name), args.layers)


def rl_iteration(run: Path, flags: tuple[str, ...]) -> None:
    """The second of two iterations: the first compiles."""
    arguments = cli.parse(["train.py", *_RL, *flags, f"--workdir={run}"])
    clocks: list[Clock] = []
    inner = stored_loop._iterate

    def iterate(*args: Any) -> Any:
        clocks.append(Clock())
        with clocks[-1].running():
            return inner(*args)

    quiet = contextlib.redirect_stderr(io.StringIO())
    with mock.patch.object(stored_loop, "_iterate", iterate), quiet:
        train_app.main(arguments)
    seconds = clocks[-1].seconds
    show("RL iteration", sum(seconds["iteration"]), seconds)


def conversion(folder: Path, layers: int) -> None:
    """One conversion, in this process."""
    size = make_checkpoint(folder / "source", with_layers(pi0(), layers))
    clock, start = Clock(), time.monotonic()
    with clock.running(), contextlib.redirect_stderr(io.StringIO()):
        torch_to_flax.main([str(folder / "source"), str(folder / "policy")])
    whole = time.monotonic() - start
    show(f"conversion of {size / 1e9:.2f} GB", whole, clock.seconds)


def with_layers(config: Pi0Config, layers: int) -> Pi0Config:
    """The same widths, fewer layers."""
    return dataclasses.replace(config, depth=layers)


def show(what: str, whole: float, seconds: dict[str, list[float]]) -> None:
    """One line: seconds, and the share of each part."""
    parts = {name: sum(seconds.get(name, [])) for name in ("fsync", "digests")}
    text = ", ".join(f"{name} {s:.3f} s ({s / whole:.1%})" for name, s in parts.items())
    print(f"{what}: {whole:.2f} s, of which {text}; both {sum(parts.values()) / whole:.1%}")


if __name__ == "__main__":
    sys.exit(main())
