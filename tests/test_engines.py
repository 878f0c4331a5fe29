"""Where the simulators of a run are, from its config."""

import pytest

from pi0_jax.env.base import Job, start
from pi0_jax.env.cluster import connection
from pi0_jax.env.scripted import ScriptedTask
from pi0_jax.env.workers.pool import SimulatorPool
from pi0_jax.errors import InputError
from pi0_jax.run import engines
from pi0_jax.run.engines import PoolConfig


def test_processes_of_this_machine(monkeypatch):
    monkeypatch.setattr(engines, "cores", lambda: 2)
    config = PoolConfig()
    with engines.reached(config), engines.started(config, "osmesa", ()) as pool:
        assert (type(pool), pool.workers, pool.renderer) == (SimulatorPool, 2, "osmesa")
        assert pool.map([Job(ScriptedTask(), start, (0,))])[0].obs is not None
    assert pool.workers == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PoolConfig(workers=-1), "pool.workers must be a"),
        (lambda: PoolConfig(timeout_s=0.5), "pool.timeout_s must be a"),
        (lambda: PoolConfig(engine="Ray"), "pool.engine must be one of 'processes', 'ray'"),
        (lambda: PoolConfig(address="10.0.0.1:6379"), "pool.address is for pool.engine='ray'"),
    ],
)
def test_an_impossible_setting(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_ray_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr(connection.importlib, "import_module", missing)
    with (
        pytest.raises(InputError, match=r"needs ray: run `pip install -e '.\[ray\]'`"),
        engines.reached(PoolConfig(engine="ray")),
    ):
        pytest.fail("reached")


def missing(name: str):
    raise ModuleNotFoundError(name, name=name)
