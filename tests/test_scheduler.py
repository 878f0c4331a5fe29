"""The scheduler over machines that come and go, which are made up here."""

import pytest

from pi0_jax.env.base import Job, start
from pi0_jax.env.scripted import ScriptedTask
from pi0_jax.env.workers import scheduler
from pi0_jax.env.workers.scheduler import WorkerPool
from pi0_jax.env.workers.source import Reply
from pi0_jax.errors import InputError

JOB = Job(ScriptedTask(), start, (0,))


class Worker:
    """Answers at once with the name of its host; on a host called "slow" it never does."""

    def __init__(self, host: str, first: Reply):
        self.host, self.name, self.replies, self.killed = host, f"worker on {host}", [first], False

    def send(self, job):
        if self.host != "slow":
            self.replies.append(Reply(result=self.host))

    def answered(self):
        return bool(self.replies)

    def receive(self):
        return self.replies.pop(0)

    def last_words(self):
        return ""

    def kill(self):
        self.killed = True


class Source:
    """One worker per place; `strange` hosts are not like the run's own."""

    renderer, limit = "osmesa", 0

    def __init__(self, places: dict[str, int], strange: tuple[str, ...] = ()):
        self.places, self.strange, self.workers = places, strange, []

    def hosts(self):
        return dict(self.places)

    def start(self, number, refused):
        alive = [w.host for w in self.workers if not w.killed]
        free = [h for h, n in self.places.items() if alive.count(h) < n and h not in refused]
        host = free[0] if free else ""
        ready = Reply(error="mujoco 1 in place of 2" if host in self.strange else None)
        self.workers.append(Worker(host, ready))
        return self.workers[-1]

    def wait(self, workers, timeout_s):
        return [worker for worker in workers if worker.host and worker.answered()]

    def close(self):
        pass


def test_a_machine_that_goes_costs_its_job_no_attempt():
    source = Source({"slow": 1, "good": 1})
    with WorkerPool(source, 60, retries=0) as pool:
        assert pool.gather() == []  # both are ready now
        pool.submit(JOB)
        assert pool.gather(0) == []
        del source.places["slow"]
        (done,) = pool.gather()
        assert (done.result, done.error) == ("good", None)
        assert pool.workers == 1


def test_machines_that_join_work():
    source = Source({"slow": 1})
    with WorkerPool(source, 60, retries=0) as pool:
        pool.submit(JOB)
        pool.submit(JOB)
        assert pool.gather(0) == []
        source.places["good"] = 2
        assert [done.result for done in pool.gather()] == ["good"]
        assert pool.workers == 3


def test_a_machine_that_is_not_alike_is_refused_with_one_line(caplog):
    with WorkerPool(Source({"old": 3, "good": 1}, ("old",)), 60, retries=0) as pool:
        assert pool.map([JOB] * 4) == ["good"] * 4
        assert pool.workers == 1
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == "worker on old and all of its machine are refused: mujoco 1 in place of 2"


def test_no_machine_that_is_alike_ends_the_run():
    pool = WorkerPool(Source({"old": 3}, ("old",)), 60, retries=0)
    with pytest.raises(InputError, match="workers cannot start: mujoco 1 in place of 2"):
        pool.map([JOB])


def test_nobody_comes(monkeypatch):
    monkeypatch.setattr(scheduler, "NOBODY_TIMEOUT_S", 0.01)
    with (
        WorkerPool(Source({}), 60, retries=0) as pool,
        pytest.raises(InputError, match=r"no simulator worker for 0\.01 s: 0 machines are there"),
    ):
        assert pool.workers == 1  # it waits for a machine
        pool.map([JOB])
