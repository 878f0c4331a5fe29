"""Requests of several clients -> calls of the policy in one worker thread, in turn and in batches.

Every client has at most one request here, because the protocol answers one before it reads the
next. So first come, first served is fair: nobody waits for more than one request of another client.
A call has `rows` rows whoever is in it, so the bits of an answer do not depend on the batch.

Axis letters: b request of a batch, H action horizon, d padded action dimension, e robot's action
dimension.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

import numpy as np

from pi0_jax.errors import InputError
from pi0_jax.policy.policy import Policy
from pi0_jax.serve.request import Request, Seed


class BusyError(InputError):
    """More requests wait than the operator allows."""


@dataclass(frozen=True)
class Answer:
    """What the policy said to one request.

    Attributes:
        actions: float32[H, e], in the robot's units and limits.
        seed: what its noise was drawn from.
        queue_ms: from the request's arrival to the call of the policy.
        infer_ms: the call, from arrays on the host to arrays on the host.
        batch: requests in that call.
    """

    actions: np.ndarray
    seed: Seed
    queue_ms: float
    infer_ms: float
    batch: int


@dataclass(eq=False)
class _Waiting:
    """A request in the queue; `arrived` in seconds of the monotonic clock."""

    request: Request
    seed: Seed
    arrived: float = field(default_factory=time.monotonic)
    answer: Future[Answer] = field(default_factory=Future)


class Batcher:
    """The worker thread and its queue; a context manager.

    Attributes:
        clients: connected clients. A call that has a request of each of them waits for no more.
    """

    def __init__(
        self,
        policy: Policy,
        wait_s: float,
        most: int,
        called: Callable[[int, float], None] = lambda batch, seconds: None,
    ):
        """Starts the thread.

        Args:
            policy: acts; a call of it takes its `rows`.
            wait_s: how long a request waits for others, at most, while the policy is idle.
            most: requests that may wait.
            called: told of every call: its requests, and the seconds that it took.
        """
        self.clients = 1
        self._policy, self._wait_s, self._most, self._called = policy, wait_s, most, called
        self._queue: list[_Waiting] = []
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="policy", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Answers what waits, and ends the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def __len__(self) -> int:
        """Number of requests that wait for a call."""
        return len(self._queue)

    def submit(self, request: Request, seed: Seed) -> Future[Answer]:
        """Queues a request; its answer is computed in the worker thread.

        Args:
            request: was checked.
            seed: of its noise.

        Returns:
            Its answer. Who cancels it before its call leaves the queue at once.

        Raises:
            BusyError: too many wait.
        """
        waiting = _Waiting(request, seed)
        waiting.answer.add_done_callback(lambda _: self._leave(waiting))
        with self._changed:
            if len(self._queue) >= self._most:
                raise BusyError(
                    f"{self._most} requests wait already; try again, or start more servers"
                )
            self._queue.append(waiting)
            self._changed.notify()
        return waiting.answer

    def _leave(self, waiting: _Waiting) -> None:
        with self._changed:
            if waiting in self._queue:
                self._queue.remove(waiting)

    def _work(self) -> None:
        while batch := self._next_batch():
            # A client may have gone since they were taken from the queue.
            if asked := [one for one in batch if one.answer.set_running_or_notify_cancel()]:
                self._answer(asked)

    def _next_batch(self) -> list[_Waiting]:
        """The oldest request and those that can share its call; empty at the end."""
        with self._changed:
            # Asked anew each time, because the oldest may leave.
            while (left := self._due_in()) is None or left > 0:
                self._changed.wait(left)
            if not self._queue:
                return []
            oldest = self._queue[0]
            same = [w for w in self._queue if w.request.program == oldest.request.program]
            batch = same[: self._policy.rows]
            self._queue = [w for w in self._queue if w not in batch]
            return batch

    def _due_in(self) -> float | None:
        """Seconds until the next call, or the end, is due; None while there is no request."""
        if self._closing:
            return 0
        if not self._queue:
            return None
        if len(self._queue) >= min(self._policy.rows, self.clients):
            return 0
        return self._queue[0].arrived + self._wait_s - time.monotonic()

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        try:
            answers = self._call(batch)
        # Whatever the policy raises is the answer to a request, and the thread goes on.
        except Exception as error:  # noqa: BLE001
            if len(batch) == 1:
                batch[0].answer.set_exception(error)
                return
            # One of them is at fault, and the others are to have their answers.
            for one in batch:
                self._answer([one])
            return
        for one, answer in zip(batch, answers, strict=True):
            one.answer.set_result(answer)

    def _call(self, batch: Sequence[_Waiting]) -> list[Answer]:
        sampling, began = batch[0].request.sampling, time.monotonic()
        policy = replace(
            self._policy, guidance=sampling.guidance, num_flow_steps=sampling.num_flow_steps
        )
        seeds = [one.seed for one in batch]
        # All of a call have one, or none has.
        ongoing = [one.request.ongoing for one in batch if one.request.ongoing]
        actions = policy.act_seeded([one.request.obs for one in batch], seeds, ongoing or None)
        seconds = time.monotonic() - began
        self._called(len(batch), seconds)
        return [
            Answer(chunk, one.seed, 1e3 * (began - one.arrived), 1e3 * seconds, len(batch))
            for chunk, one in zip(actions, batch, strict=True)
        ]
