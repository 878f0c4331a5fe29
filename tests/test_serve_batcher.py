"""The worker thread: batches, whose turn it is, and faults that stay where they belong."""

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from pi0_jax.episode import RawObs
from pi0_jax.policy.ongoing import Ongoing
from pi0_jax.serve.batcher import Batcher, BusyError
from pi0_jax.serve.request import Request, Sampling

PLAIN = Sampling(1.0, 10)


@dataclass(frozen=True)
class Diary:
    """A policy that answers with the seed of each request, and notes its calls.

    While `gate` is not set, a call does not end. A request whose state is 13 breaks its call.
    """

    rows: int = 3
    guidance: float = 1.0
    num_flow_steps: int = 10
    calls: list = field(default_factory=list)
    gate: Any = field(default_factory=threading.Event)

    def act_seeded(self, observations, seeds, ongoing):
        assert ongoing is None or len(ongoing) == len(seeds)
        self.calls.append((self.guidance, [seed[0] for seed in seeds]))
        assert self.gate.wait(10)
        if any(obs.state[0] == 13 for obs in observations):
            raise ValueError("unlucky")
        return np.array(seeds, np.float32)[:, :, None]


def request(
    state: float = 0, sampling: Sampling = PLAIN, ongoing: Ongoing | None = None
) -> Request:
    return Request(RawObs(np.zeros(0), np.array([state]), ""), sampling, None, ongoing)


def batcher(policy: Diary, clients: int = 10, wait_s: float = 5.0, most: int = 99) -> Batcher:
    found = Batcher(policy, wait_s, most)
    found.clients = clients
    return found


def until(true) -> None:
    deadline = time.monotonic() + 10
    while not true() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert true()


def test_what_waits_shares_calls_of_at_most_rows_in_order():
    policy = Diary()
    with batcher(policy, clients=1) as batch:
        answers = [batch.submit(request(), (0,))]
        until(lambda: policy.calls)  # the first alone, and the others come meanwhile
        answers += [batch.submit(request(), (n,)) for n in range(1, 6)]
        policy.gate.set()
        found = [one.result(10) for one in answers]
    assert policy.calls == [(1.0, [0]), (1.0, [1, 2, 3]), (1.0, [4, 5])]
    assert [float(answer.actions[0, 0]) for answer in found] == [0, 1, 2, 3, 4, 5]
    assert [answer.batch for answer in found] == [1, 3, 3, 3, 2, 2]
    assert [answer.seed for answer in found] == [(n,) for n in range(6)]


def test_other_settings_are_another_call_and_nobody_is_overtaken_for_ever():
    policy, strong = Diary(), Sampling(2.0, 10)
    with batcher(policy, clients=1) as batch:
        batch.submit(request(), (0,))
        until(lambda: policy.calls)
        for n, sampling in enumerate([PLAIN, strong, PLAIN, strong], 1):
            last = batch.submit(request(sampling=sampling), (n,))
        policy.gate.set()
        last.result(10)
    assert policy.calls == [(1.0, [0]), (1.0, [1, 3]), (2.0, [2, 4])]


def test_who_continues_a_chunk_shares_calls_with_such():
    policy, moving = Diary(), Ongoing(np.zeros((1, 1)), 0)
    with batcher(policy, wait_s=0) as found:
        kinds = (moving, None, moving, None)
        answers = [found.submit(request(ongoing=one), (n,)) for n, one in enumerate(kinds)]
        policy.gate.set()
        assert [answer.result(10).seed for answer in answers] == [(0,), (1,), (2,), (3,)]
    calls = [seeds for _, seeds in policy.calls]
    assert calls in ([[0], [1, 3], [2]], [[0, 2], [1, 3]])


def test_it_waits_for_others_but_not_where_nobody_else_is():
    policy = Diary()
    policy.gate.set()
    with batcher(policy, clients=1, wait_s=5.0) as batch:
        began = time.monotonic()
        batch.submit(request(), (0,)).result(10)
        assert time.monotonic() - began < 2
        batch.clients = 2
        one = batch.submit(request(), (1,))
        two = batch.submit(request(), (2,))
        assert (one.result(10).batch, two.result(10).batch) == (2, 2)
    assert policy.calls == [(1.0, [0]), (1.0, [1, 2])]


def test_the_wait_ends():
    policy = Diary()
    policy.gate.set()
    with batcher(policy, wait_s=0.02) as batch:
        answer = batch.submit(request(), (0,)).result(10)
    assert 20 <= answer.queue_ms < 1000


def test_a_request_that_breaks_its_call_breaks_no_other():
    policy = Diary()
    with batcher(policy, clients=1) as batch:
        batch.submit(request(), (0,))
        until(lambda: policy.calls)
        answers = [batch.submit(request(state), (n,)) for n, state in enumerate([0, 13, 0], 1)]
        policy.gate.set()
        assert [float(answers[i].result(10).actions[0, 0]) for i in (0, 2)] == [1, 3]
        with pytest.raises(ValueError, match="unlucky"):
            answers[1].result(10)
    assert policy.calls[1:] == [(1.0, [1, 2, 3]), (1.0, [1]), (1.0, [2]), (1.0, [3])]


def test_more_than_may_wait_is_an_error_at_once():
    policy = Diary()
    with batcher(policy, clients=1, most=2) as batch:
        batch.submit(request(), (0,))
        until(lambda: policy.calls)
        waiting = [batch.submit(request(), (n,)) for n in (1, 2)]
        with pytest.raises(BusyError, match="2 requests wait already"):
            batch.submit(request(), (3,))
        assert len(batch) == 2
        policy.gate.set()
        for one in waiting:
            one.result(10)


def test_who_has_gone_is_not_computed():
    policy = Diary()
    with batcher(policy, clients=1) as batch:
        batch.submit(request(), (0,))
        until(lambda: policy.calls)
        gone, there = (batch.submit(request(), (n,)) for n in (1, 2))
        gone.cancel()
        policy.gate.set()
        there.result(10)
    assert policy.calls == [(1.0, [0]), (1.0, [2])]


def test_who_has_gone_leaves_its_place_to_others():
    policy = Diary()
    with batcher(policy, clients=1, most=2) as batch:
        batch.submit(request(), (0,))
        until(lambda: policy.calls)
        for n in range(1, 6):
            batch.submit(request(), (n,)).cancel()
        assert len(batch) == 0
        there = [batch.submit(request(), (n,)) for n in (6, 7)]
        policy.gate.set()
        assert [one.result(10).batch for one in there] == [2, 2]
    assert policy.calls == [(1.0, [0]), (1.0, [6, 7])]


def test_the_thread_goes_on_when_all_leave_while_it_waits_for_others():
    policy = Diary()
    policy.gate.set()
    with batcher(policy, clients=2, wait_s=0.1) as batch:
        batch.submit(request(), (0,)).cancel()
        assert batch.submit(request(), (1,)).result(10).batch == 1
        time.sleep(0.2)  # the thread finds an empty queue, and waits
        assert batch.submit(request(), (2,)).result(10).batch == 1
    assert policy.calls == [(1.0, [1]), (1.0, [2])]


def test_what_waits_at_the_end_is_answered():
    policy = Diary()
    policy.gate.set()
    with batcher(policy) as batch:
        waiting = [batch.submit(request(), (n,)) for n in range(4)]
    assert [float(one.result(0).actions[0, 0]) for one in waiting] == [0, 1, 2, 3]
