"""Layouts that cannot be are refused with the numbers; compiled programs outlive a process."""

import subprocess
import sys

import pytest
from tiny import CONFIG

from pi0_jax.errors import InputError
from pi0_jax.training.hardware import Hardware


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fsdp": 0}, "hardware.fsdp must be a"),
        ({"micro_batches": -1}, "hardware.micro_batches must be a"),
        ({"frozen_dtype": "int8"}, "hardware.frozen_dtype must be one of .* got 'int8'"),
        ({"memory_gb": -1.0}, "hardware.memory_gb must be a number"),
        ({"remat": "some"}, "remat must be one of .* got 'some'"),
        ({"attention": "flash"}, "attention must be one of .* got 'flash'"),
    ],
)
def test_ranges(values, message):
    with pytest.raises(InputError, match=message):
        Hardware(**values)


def test_batches():
    Hardware(data=2, fsdp=4, micro_batches=3).check_batch(48)
    with pytest.raises(InputError, match=r"2 \* 4 \* 3 = 24, got 36"):
        Hardware(data=2, fsdp=4, micro_batches=3).check_batch(36)


def test_the_network_is_the_one_asked_for():
    network = Hardware(remat="mlp", attention="fused").network(CONFIG)
    assert (network.config, network.remat, network.attention) == (CONFIG, "mlp", "fused")


@pytest.mark.parametrize("wanted", [True, False])
def test_compiled_programs_outlive_the_process(tmp_path, wanted):
    folder = tmp_path / "programs"
    program = f"""
import jax
from pi0_jax.training.hardware import cache_programs
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
cache_programs({str(folder) if wanted else ""!r})
jax.jit(lambda x: x + 1)(1.0).block_until_ready()
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert folder.exists() == wanted
    assert not wanted or any(folder.iterdir())
