"""Tasks, simulators and engines: a simulator is a pure function, which any engine can map.

A simulator keeps nothing from one call to the next: `run` takes the whole state and returns the
next one. So a worker that dies loses no episode, K rollouts of a group start from copies of one
value, and any idle worker can take any job of any episode.

Axis letters: t control step, s state dimension, e action dimension, f video frame, r rendered step,
c camera, h height, w width.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from pi0_jax.episode import RawObs, digest
from pi0_jax.robot import Robot


@dataclass(frozen=True)
class SimState:
    """Everything a simulator needs to continue after a control step (about 10 kB), picklable.

    Attributes:
        arrays: name -> array; the names are those of the simulator that made it.
    """

    arrays: Mapping[str, np.ndarray]

    @property
    def hash(self) -> str:
        """Digest that identifies an initial state."""
        return digest([self.arrays[name] for name in sorted(self.arrays)])


@dataclass(frozen=True)
class ChunkResult:
    """Result of executing one action chunk: next state, next observation, success, recordings.

    Attributes:
        state: the simulator's state at the end of the chunk.
        obs: the policy's next observation; None after success, when none is needed.
        success: the task's predicate, checked after every control step; True ends the chunk.
        proprio: float32[t, s], proprioception before each executed step.
        actions: float32[t, e], the executed actions, within the robot's limits.
        frames: uint8[f, h, w, 3], upright pictures for a video; empty if not asked for.
        looks: uint8[r, c, h, w, 3], what the policy would have seen during the chunk, as in
            `RawObs`; empty if not asked for.
        look_steps: int32[r], increasing: for each look, the step of the chunk, counted from 0,
            before which it was rendered.
    """

    state: SimState
    obs: RawObs | None
    success: bool
    proprio: np.ndarray
    actions: np.ndarray
    frames: np.ndarray
    looks: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0, 0, 3), np.uint8))
    look_steps: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))


class Simulator(Protocol):
    """One built simulator, in one worker process. It keeps no episode."""

    def start(self, seed: int) -> ChunkResult:
        """Places the objects from `seed`, lets them settle, and renders once (t = 0)."""
        ...

    def run(
        self,
        state: SimState,
        actions: np.ndarray,
        frame_every: int = 0,
        look_every: int = 0,
        step: int = 0,
    ) -> ChunkResult:
        """Executes float32[t, e] actions from `state`; renders once, at the end.

        Stops early at success. With `frame_every` n > 0 it also renders a video frame every n
        steps; with `look_every` n > 0 it also renders an observation before every n-th step of the
        episode, where `step` is the step at which this chunk begins. Neither changes the physics.
        Results are bit-identical for equal arguments, in any process.
        """
        ...

    def close(self) -> None:
        """Frees the GL context."""
        ...


@runtime_checkable
class Task(Protocol):
    """A frozen, hashable, picklable description that can build its simulator in any process."""

    @property
    def name(self) -> str:
        """Unique over suites, usable as a file name."""
        ...

    @property
    def instruction(self) -> str:
        """The language instruction given to the policy."""
        ...

    @property
    def max_steps(self) -> int:
        """Control steps after which an episode has failed."""
        ...

    @property
    def settle_steps(self) -> int:
        """Control steps before the first observation in which objects come to rest; not counted."""
        ...

    @property
    def robot(self) -> Robot:
        """The robot that acts: its cameras, its state and its actions."""
        ...

    def build(self) -> Simulator:
        """Builds the simulator; called once per worker and task."""
        ...


@dataclass(frozen=True)
class Job:
    """`function(simulator of task, *args)`, run by any worker; `function` is module-level."""

    task: Task
    function: Callable[..., Any]
    args: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Done:
    """A job that has ended.

    Attributes:
        ticket: what `submit` returned.
        result: what the job's function returned; None after an error.
        error: why the simulator failed, in one line, or None.
    """

    ticket: int
    result: Any
    error: str | None


class Engine(Protocol):
    """Runs jobs: in processes of this machine (`pool.SimulatorPool`), or on a cluster."""

    @property
    def workers(self) -> int:
        """Number of jobs that run at the same time."""
        ...

    @property
    def renderer(self) -> str:
        """MuJoCo's GL backend in the workers."""
        ...

    @property
    def backlog(self) -> int:
        """Number of jobs that wait for a worker."""
        ...

    def submit(self, job: Job) -> int:
        """Queues a job and returns its ticket."""
        ...

    def gather(self, timeout_s: float | None = None) -> list[Done]:
        """All jobs that have ended; waits for at least one, but at most `timeout_s`.

        Returns an empty list at once if no job is queued or running.
        """
        ...

    def run_all(
        self, jobs: Iterable[Job], report: Callable[[list[Done]], None] = ...
    ) -> list[Done]:
        """Runs all jobs to their end and returns them in their order, while nothing else runs."""
        ...

    def map(self, jobs: Iterable[Job], report: Callable[[list[Any]], None] = ...) -> list[Any]:
        """Results of all jobs, as `run_all`; raises RuntimeError if one failed in every attempt."""
        ...


def start(simulator: Simulator, seed: int) -> ChunkResult:
    """Job function: the initial state of `seed`."""
    return simulator.start(seed)


def run(
    simulator: Simulator,
    state: SimState,
    actions: np.ndarray,
    frame_every: int = 0,
    look_every: int = 0,
    step: int = 0,
) -> ChunkResult:
    """Job function: one action chunk from a state."""
    return simulator.run(state, actions, frame_every, look_every, step)


def results_of(over: Iterable[Done]) -> list[Any]:
    """The results of jobs that have ended.

    Raises:
        RuntimeError: a job failed; the message is its error.
    """
    results = []
    for done in over:
        if done.error is not None:
            raise RuntimeError(done.error)
        results.append(done.result)
    return results
