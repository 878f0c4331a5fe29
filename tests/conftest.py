"""Shared fixtures: one set of tiny parameters and one simulator pool, made once and reused."""

import atexit
import functools
import gc
import os
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile much and compute little, and many of them the same: what one has compiled, the other
# workers of pytest-xdist and the programs that tests start take from this folder.
# Set it to a folder of your own, and the next run has them too.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="pi0_jax_tests_")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import jax
import jax.numpy as jnp
import pytest
from checkpoints import TorchGolden, put_together
from hypothesis import HealthCheck, settings
from skips import pytest_sessionfinish, pytest_terminal_summary  # noqa: F401

from pi0_jax.env.workers.pool import SimulatorPool
from pi0_jax.testing import random_params

# How long an example takes is the machine's affair.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture(scope="module", autouse=True)
def _keep_what_earlier_files_left():
    """The garbage collector no longer looks through what is there when a file begins.

    imageio collects after every video; through all that a hundred files have traced and compiled
    this takes 2 s each time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def params():
    """Parameters of `tiny.MODEL` as after training: none is zero, `cond_embed` included."""
    return jax.tree.map(jnp.asarray, random_params())


@pytest.fixture(scope="session")
def blind_params(params):
    """The same before RL: `cond_embed` is zero."""
    return params | {"cond_embed": jnp.zeros_like(params["cond_embed"])}


@pytest.fixture(scope="module")
def scripted_pool():
    """Two workers for `ScriptedTask`s."""
    with SimulatorPool(2, timeout_s=20) as pool:
        yield pool


@pytest.fixture(scope="module")
def thrift():
    """Loops of RL share what they compile."""
    from loops import compiled_once

    with compiled_once():
        yield


@pytest.fixture(scope="session")
def hlo():
    """The module bench/hlo.py, which reads compiled programs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "bench"))
        import hlo

        yield hlo


@pytest.fixture(scope="session")
def torch_golden(tmp_path_factory: pytest.TempPathFactory) -> TorchGolden:
    """A checkpoint of tests/goldens in a PyTorch layout, put together once, by its name."""
    folder = tmp_path_factory.mktemp("torch_golden")
    return functools.cache(lambda name: put_together(name, folder / name))
