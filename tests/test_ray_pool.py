"""Simulators on a cluster of Ray: two nodes on this machine, which listen on 127.0.0.1 alone."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import contextmanager

import pytest
from ray_jobs import hang_once, where
from skips import needs_ray
from test_collect import NoisePolicy, assert_same

from pi0_jax.env.base import Job, start
from pi0_jax.env.cluster.connection import connected
from pi0_jax.env.cluster.ray_pool import RayPool
from pi0_jax.env.robosuite.gl import choose_renderer
from pi0_jax.env.robosuite.lift import LiftTask
from pi0_jax.env.scripted import ScriptedTask
from pi0_jax.env.workers.pool import SimulatorPool
from pi0_jax.errors import InputError
from pi0_jax.rollout.collect import collect, plan_states

pytestmark = needs_ray
# Ray takes 127.0.0.1 for another machine's word for itself, and goes to this machine's own address,
# where nobody listens here. It reads this when it is imported.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
HERE = "127.0.0.1"
TASK = ScriptedTask()


@pytest.fixture(scope="module")
def cluster():
    """A head without cores; nodes are added by the tests."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "node_ip_address": HERE}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    with connected(cluster.address):
        yield cluster
    cluster.shutdown()


@contextmanager
def nodes(cluster, *cores: int, **more):
    """Nodes with so many cores; they are gone behind the block."""
    added = [cluster.add_node(num_cpus=n, node_ip_address=HERE, **more) for n in cores]
    try:
        yield added
    finally:
        for node in added:
            if node in cluster.worker_nodes:
                cluster.remove_node(node)


def pool(workers: int = 0, timeout_s: float = 60.0) -> RayPool:
    return RayPool(workers, timeout_s, choose_renderer())


def episodes(engine, task, on_report: Callable[[], None] = lambda: None):
    """Four groups of three rollouts."""
    policy = NoisePolicy()
    policy.robot = task.robot
    plans = plan_states(engine, [(task, seed) for seed in range(4)], rollouts=3)
    return collect(policy, engine, plans, 2, 0, lambda ended: on_report())


def local(task):
    with SimulatorPool(2, 60, renderer=choose_renderer()) as engine:
        return episodes(engine, task)


def wait_for(engine, what: Callable[[set[tuple[str, int]]], bool]) -> set[tuple[str, int]]:
    """Runs jobs until node and process of those that ran are as wanted."""
    end = time.monotonic() + 90
    while time.monotonic() < end:
        found = set(engine.map([Job(TASK, where)] * 16))
        if what(found):
            return found
    raise AssertionError(f"still {found}")


def same(one, two) -> None:
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert a.error is None
        assert_same(a, b)


@pytest.mark.parametrize("task", [TASK, LiftTask(image_size=32, max_steps=8)], ids=["dot", "lift"])
def test_episodes_are_those_of_the_local_pool(cluster, task):
    with nodes(cluster, 1, 1), pool() as engine:
        assert engine.workers == 2
        same(episodes(engine, task), local(task))


def test_a_node_and_an_actor_die_and_a_node_joins(cluster):
    """No episode is lost, and none has other bits."""
    task = ScriptedTask(max_steps=60, tolerance=0.01)
    with nodes(cluster, 1, 2) as (_, second), pool() as engine, nodes(cluster):
        placed = wait_for(engine, lambda found: len(found) == 3)
        lost = second.node_id
        killed = next(process for node, process in placed if node != lost)
        faults = iter([lambda: os.kill(killed, signal.SIGKILL), lambda: leave(cluster, second)])
        found = episodes(engine, task, lambda: next(faults, lambda: None)())
        assert next(faults, None) is None
        same(found, local(task))
        with nodes(cluster, 2) as (joined,):
            back = wait_for(engine, lambda found: len(found) == 3)
        assert {node for node, _ in back} >= {joined.node_id}
        assert not {lost} & {node for node, _ in back}
        assert killed not in {process for _, process in back}


def leave(cluster, node) -> None:
    cluster.remove_node(node, allow_graceful=False)


def test_no_more_workers_than_asked_for(cluster):
    with nodes(cluster, 2), pool(workers=1) as engine:
        assert engine.workers == 1
        assert len(set(engine.map([Job(TASK, where)] * 4))) == 1


@pytest.fixture
def other_mujoco(tmp_path) -> dict[str, str]:
    """Environment of a node with another version of MuJoCo, as far as its packages say."""
    folder = tmp_path / "mujoco-9.9.9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: mujoco\nVersion: 9.9.9\n")
    return {"PYTHONPATH": str(tmp_path)}


def test_a_node_that_is_not_alike_is_refused(cluster, other_mujoco, caplog):
    with nodes(cluster, 1) as (good,), nodes(cluster, 1, env_vars=other_mujoco), pool() as engine:
        assert engine.workers == 2
        end = time.monotonic() + 60
        while engine.workers > 1 and time.monotonic() < end:
            assert {node for node, _ in engine.map([Job(TASK, where)] * 4)} == {good.node_id}
        assert engine.workers == 1
    (line,) = [record.getMessage() for record in caplog.records if "refused" in record.msg]
    assert line.startswith("worker ")
    assert "of its machine are refused: mujoco 9.9.9 in place of 3.3." in line


def test_nothing_but_nodes_that_are_not_alike_ends_the_run(cluster, other_mujoco):
    with (
        nodes(cluster, 1, env_vars=other_mujoco),
        pool() as engine,
        pytest.raises(InputError, match=r"workers cannot start: mujoco 9\.9\.9 in place of 3"),
    ):
        engine.map([Job(TASK, start, (0,))])


def test_a_hanging_job_is_given_up(cluster, tmp_path):
    awake = tmp_path / "awake"
    awake.touch()
    with nodes(cluster, 1), pool(timeout_s=2.0) as engine:
        assert engine.map([Job(TASK, hang_once, (str(awake),))]) == ["awake"]
        engine.submit(Job(TASK, hang_once, (str(tmp_path / "asleep"),)))
        (done,) = engine.gather()
    assert (done.result, done.error) == ("awake", None)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (f"{HERE}:1", r"^no Ray cluster at '127\.0\.0\.1:1' \(.*refused\): .*`ray start --head`"),
        ("ray://head:10001", "must be HOST:PORT of the head"),
        ("head", "must be HOST:PORT of the head"),
    ],
)
def test_an_address_where_no_cluster_is(monkeypatch, address, message):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(InputError, match=message), connected(address):
        pytest.fail("connected")
