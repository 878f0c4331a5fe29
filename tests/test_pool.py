"""The pool under everything that can go wrong with a worker."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pi0_jax.env.base import Job, run, start
from pi0_jax.env.scripted import ScriptedSimulator, ScriptedTask
from pi0_jax.env.workers import process as process_module
from pi0_jax.env.workers import seat as seat_module
from pi0_jax.env.workers.pool import SimulatorPool
from pi0_jax.env.workers.worker import _is_fatal
from pi0_jax.errors import InputError

TASK = ScriptedTask()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Building the scripted task takes no time; hanging tests should not wait for it."""
    monkeypatch.setattr(seat_module, "BUILD_TIMEOUT_S", 1.0)


@pytest.fixture
def pool():
    with SimulatorPool(2, timeout_s=20) as pool:
        yield pool


@dataclass(frozen=True)
class FaultyTask(ScriptedTask):
    """Does `fault` at the start of seed 13, and writes a line to `diary` each time.

    After `times` lines it behaves.
    """

    fault: str = "raise"
    diary: str = ""
    times: int = 1000

    def build(self) -> "FaultySimulator":
        return FaultySimulator(self)


class FaultySimulator(ScriptedSimulator):
    """What `FaultyTask` builds."""

    def start(self, seed: int):
        if seed == 13 and attempts(self.task.diary) < self.task.times:
            with Path(self.task.diary).open("a") as diary:
                diary.write(f"{os.getpid()}\n")
            misbehave(self.task.fault)
        return super().start(seed)


def misbehave(fault: str) -> None:
    if fault == "raise":
        raise RuntimeError("the method fell off\nand more")
    if fault == "exit":
        os._exit(3)
    time.sleep(600)


def attempts(diary: str) -> int:
    path = Path(diary)
    return len(path.read_text().splitlines()) if path.exists() else 0


def loaded_modules(simulator) -> list[str]:
    return sorted(sys.modules)


def environment(simulator) -> dict[str, str]:
    return dict(os.environ)


def slow_start(simulator, seed: int, seconds: float):
    time.sleep(seconds)
    return simulator.start(seed)


def start_behind(simulator, seed: int, gate: str):
    """Starts when there is a file `gate`."""
    while not Path(gate).exists():
        time.sleep(0.01)
    return simulator.start(seed)


def who(simulator) -> tuple[int, float]:
    """Which process, and when."""
    time.sleep(0.01)
    return os.getpid(), time.monotonic()


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_dead(pids: list[int]) -> bool:
    """Gives up long before a job of theirs would end."""
    end = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(alive, pids))


def test_map_keeps_the_order(pool):
    starts = pool.map([Job(TASK, start, (seed,)) for seed in range(20)])
    assert [b.state.hash for b in starts] == [TASK.build().start(s).state.hash for s in range(20)]
    assert pool.backlog == 0


def failing(simulator: object) -> None:
    """Job function that fails at once."""
    raise ValueError("spoilt")


def test_an_ended_map_leaves_nothing_to_the_next(pool):
    """Its error comes while others of its jobs run and wait."""
    slow = [Job(TASK, slow_start, (1, 0.3))] * 4
    with pytest.raises(RuntimeError, match="spoilt"):
        pool.map([Job(TASK, failing), *slow])
    assert pool.backlog == 0
    starts = pool.map([Job(TASK, start, (seed,)) for seed in range(6)])
    assert [b.state.hash for b in starts] == [TASK.build().start(s).state.hash for s in range(6)]


def test_submit_and_gather(pool, tmp_path):
    assert pool.gather() == []  # nothing under way: does not wait
    seen: set[int] = set()
    while len(seen) < 2:  # until both workers are up
        seen |= {pid for pid, _ in pool.map([Job(TASK, who)] * 4)}
    gate = tmp_path / "gate"
    tickets = [pool.submit(Job(TASK, start_behind, (seed, str(gate)))) for seed in range(5)]
    assert pool.backlog == 3
    assert pool.gather(0) == []
    gate.touch()
    done = []
    while len(done) < 5:
        batch = pool.gather()
        assert batch
        done += batch
    assert sorted(d.ticket for d in done) == tickets
    expected = {t: TASK.build().start(s).state.hash for s, t in enumerate(tickets)}
    assert {d.ticket: d.result.state.hash for d in done} == expected


def test_workers_never_import_the_trainers_packages(pool):
    import jax  # noqa: F401 (the parent has it)

    job = Job(TASK, loaded_modules)
    modules = set(pool.map([job])[0])
    assert "pi0_jax.env.scripted" in modules
    assert not {"jax", "jaxlib", "torch", "flax"} & modules


def test_workers_have_one_thread_and_the_renderer():
    with SimulatorPool(1, 20, renderer="egl") as pool:
        variables = pool.map([Job(TASK, environment)])[0]
    assert variables["MUJOCO_GL"] == "egl"
    assert variables["LP_NUM_THREADS"] == "0"
    assert variables["OMP_NUM_THREADS"] == variables["NUMBA_NUM_THREADS"] == "1"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raise", r"RuntimeError: the method fell off \(test_pool.py:\d+ in misbehave\)"),
        ("exit", r"worker \d+ ended \(exit code 3\)"),
    ],
)
def test_retries_are_bounded_and_the_error_is_one_line(pool, tmp_path, fault, message):
    diary = str(tmp_path / "diary")
    task = FaultyTask(fault=fault, diary=diary)
    good = [pool.submit(Job(task, start, (seed,))) for seed in range(4)]
    bad = pool.submit(Job(task, start, (13,)))
    done = {}
    while len(done) < 5:
        done |= {d.ticket: d for d in pool.gather()}
    assert [done[ticket].error for ticket in good] == [None] * 4
    assert done[bad].result is None
    assert re.fullmatch(f"scripted: {message}, after 3 attempts", done[bad].error)
    assert attempts(diary) == 3
    assert pool.map([Job(TASK, start, (1,))])[0].state.hash  # the pool still works


@pytest.mark.parametrize("fault", ["raise", "exit"])
def test_a_passing_fault_is_invisible(pool, tmp_path, fault):
    task = FaultyTask(fault=fault, diary=str(tmp_path / "diary"), times=2)
    boundary = pool.map([Job(task, start, (13,))])[0]
    assert boundary.state.hash == TASK.build().start(13).state.hash
    assert attempts(task.diary) == 2


def test_after_a_raise_the_job_runs_elsewhere(pool, tmp_path):
    pool.map([Job(TASK, who)] * 4)
    task = FaultyTask(diary=str(tmp_path / "diary"), times=2)
    pool.map([Job(task, start, (13,))])
    raised = [int(line) for line in Path(task.diary).read_text().split()]
    assert len(set(raised)) == 2
    assert all(map(alive, raised))  # a raise costs the simulator, not the process


def test_map_raises_what_failed(tmp_path):
    task = FaultyTask(diary=str(tmp_path / "diary"))
    with (
        SimulatorPool(1, 20, retries=0) as pool,
        pytest.raises(RuntimeError, match=r"method fell off .* after 1 attempts"),
    ):
        pool.map([Job(task, start, (13,))])


def test_a_hanging_job_is_given_up(tmp_path):
    task = FaultyTask(fault="hang", diary=str(tmp_path / "diary"))
    with SimulatorPool(1, timeout_s=0.2, retries=1) as pool:
        pool.submit(Job(task, start, (13,)))
        (done,) = pool.gather()
    assert "hangs: no answer in 1.2 s, after 2 attempts" in done.error


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_killed_or_stopped_is_replaced(how):
    with SimulatorPool(2, timeout_s=1.0) as pool:
        pool.map([Job(TASK, who)] * 4)
        tickets = [pool.submit(Job(TASK, slow_start, (seed, 0.2))) for seed in range(4)]
        victim = pool._seats[0].worker.pid
        os.kill(victim, how)
        done = {}
        while len(done) < 4:
            done |= {d.ticket: d for d in pool.gather()}
        assert not alive(victim)
    expected = [TASK.build().start(seed).state.hash for seed in range(4)]
    assert [done[ticket].result.state.hash for ticket in tickets] == expected


def test_an_idle_worker_that_dies_is_replaced(pool):
    processes = {process for process, _ in pool.map([Job(TASK, who)] * 8)}
    for seat in pool._seats:
        os.kill(seat.worker.pid, signal.SIGKILL)
    again = {process for process, _ in pool.map([Job(TASK, who)] * 8)}
    assert not processes & again


def test_workers_stay_with_their_task(pool):
    tasks = [ScriptedTask(name="a"), ScriptedTask(name="b")]
    ran = pool.map([Job(tasks[i % 2], who) for i in range(30)])
    builds = 0
    for worker in {process for process, _ in ran}:
        order = sorted((when, i % 2) for i, (process, when) in enumerate(ran) if process == worker)
        names = [name for _, name in order]
        builds += 1 + sum(a != b for a, b in itertools.pairwise(names))
    # One a worker, and one more where the jobs of a task run out; in turns it would be thirty.
    assert builds <= 4


def test_a_function_the_worker_cannot_import_is_an_error(pool):
    job = Job(TASK, _nowhere)
    with pytest.raises(InputError, match="no_such_module"):
        pool.map([job])


class _Nowhere:
    def __call__(self, simulator):
        raise AssertionError("must not run")

    def __reduce__(self):
        return (__import__, ("no_such_module",))


_nowhere = _Nowhere()


def test_workers_that_cannot_start_say_why(monkeypatch, tmp_path):
    (tmp_path / "numpy.py").write_text("raise ImportError('numpy is broken here')")
    monkeypatch.setattr(process_module.sys, "path", [str(tmp_path), *sys.path])
    with (
        SimulatorPool(2, 20) as pool,
        pytest.raises(InputError, match=r"cannot start: ImportError: numpy is broken here$"),
    ):
        pool.map([Job(TASK, who)])


def test_no_workers_is_an_input_error():
    with pytest.raises(InputError, match="at least 1"):
        SimulatorPool(0, 1)


def test_close_ends_even_busy_workers():
    with SimulatorPool(2, 20) as pool:
        pids = [process for process, _ in pool.map([Job(TASK, who)] * 8)]
        for seed in range(2):
            pool.submit(Job(TASK, slow_start, (seed, 60.0)))
    assert wait_until_dead(pids)


PARENT = """
import signal, sys, time
# A shell starts its background jobs with SIGINT ignored, and every process below inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {tests!r})
import test_pool as t
with t.SimulatorPool(2, 60) as pool:
    pool.map([t.Job(t.TASK, t.who)] * 4)
    pool.submit(t.Job(t.TASK, t.slow_start, (0, 60.0)))
    print(*[seat.worker.pid for seat in pool._seats], flush=True)
    pool.gather()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(how):
    script = PARENT.format(tests=str(Path(__file__).parent))
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    assert all(map(alive, pids))
    os.killpg(parent.pid, how)  # as a terminal does on Ctrl-C
    parent.wait(10)
    assert wait_until_dead(pids)


def test_results_do_not_depend_on_the_number_of_workers():
    actions = np.random.default_rng(0).uniform(-1, 1, (6, 5, 7)).astype(np.float32)

    def hashes(workers: int) -> list[str]:
        with SimulatorPool(workers, 20) as pool:
            starts = pool.map([Job(TASK, start, (seed,)) for seed in range(6)])
            jobs = [Job(TASK, run, (s.state, a)) for s, a in zip(starts, actions, strict=True)]
            return [boundary.state.hash for boundary in pool.map(jobs)]

    assert hashes(1) == hashes(3)


STOPPED = """
import os, signal, sys
from pi0_jax.env.workers.process import WorkerProcess
worker = WorkerProcess("osmesa", 0)
worker.receive()
os.kill(worker.pid, signal.SIGSTOP)
print(worker.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_that_is_stopped_ends_with_its_parent():
    """Its socket closes too, but a process that is stopped cannot notice."""
    found = subprocess.run([sys.executable, "-c", STOPPED], capture_output=True, text=True)
    assert found.returncode == -signal.SIGKILL
    pid, deadline = int(found.stdout), time.monotonic() + 10
    while time.monotonic() < deadline and running(pid):
        time.sleep(0.01)
    assert not running(pid)


def running(pid: int) -> bool:
    """Whether a process exists and is no zombie, which nobody may fetch in a container."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("error", "fatal"),
    [
        (ImportError("x.so: failed to map segment from shared object"), False),
        (ImportError("x.so: cannot allocate memory in static TLS block"), False),
        (ImportError("libGL.so.1: cannot open shared object file: No such file"), True),
        (ModuleNotFoundError("No module named 'robosuite'"), True),
        (InputError("no such asset"), True),
        (ValueError("x"), False),
    ],
)
def test_want_of_memory_is_no_missing_package(error, fatal):
    assert _is_fatal(error) == fatal
