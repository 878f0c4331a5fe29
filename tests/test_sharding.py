"""One device, eight devices, two hosts: the same numbers, and large leaves in parts."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from hosts import free_address
from mesh_worker import parts
from skips import slow
from tiny import CONFIG

from pi0_jax.errors import InputError
from pi0_jax.io.orbax_tree import load_shapes
from pi0_jax.training import checkpoint, sharding
from pi0_jax.training.fit import create_training
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.sharding import make_mesh

WORKER = Path(__file__).with_name("mesh_worker.py")


def spawn(
    out: Path, devices: int, *arguments: object, worker: Path = WORKER
) -> subprocess.Popen[str]:
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, worker, out, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, text=True, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


def stepped(out: Path, *plans: tuple[object, ...]) -> dict[str, np.ndarray]:
    """Two steps, by a process for each plan; what the first of them stored."""
    for process in [spawn(out, *plan) for plan in plans]:
        finish(process)
    return dict(np.load(out))


@pytest.fixture(scope="module")
def one(folder) -> dict[str, np.ndarray]:
    return stepped(folder / "one.npz", (1, 1, 1, 1))


@pytest.fixture(scope="module")
def eight(folder) -> dict[str, np.ndarray]:
    """Leaves alone are cut."""
    return stepped(folder / "eight.npz", (8, 1, 8, 1))


def check(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], fsdp: int) -> None:
    """Equal numbers; and each device holds its part of large leaves, moments, acting copies."""
    leaves = [key for key in expected if key.startswith("leaf")]
    assert len(leaves) > 30
    assert expected["losses"][0] != expected["losses"][1]
    np.testing.assert_allclose(found["losses"], expected["losses"], rtol=1e-5)
    for key in leaves:
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-4, atol=1e-4)
    held = found["embedding_shard"].tolist()
    assert held == [CONFIG.vocab_size, CONFIG.vlm.width // fsdp]
    gating = CONFIG.depth * 2 * CONFIG.vlm.width * CONFIG.vlm.mlp_dim
    assert gating == fsdp * np.prod(found["moment_shard"]) == fsdp * np.prod(found["acting_shard"])


def test_eight_devices_have_the_numbers_of_one(one, eight):
    check(one, one, 1)
    check(eight, one, 8)


# tests/test_hosts.py has whole runs; test_talk in small what hosts say to each other.
@slow
def test_two_hosts_have_the_numbers_of_one_device(one, folder):
    address = free_address()
    plans = [(4, 2, 4, 2, address, 2, host) for host in (0, 1)]
    check(stepped(folder / "hosts.npz", *plans), one, 4)


def test_weights_are_gathered_and_activations_are_not(one, eight, folder, hlo):
    """Real FSDP moves a weight twice and its gradient once.

    Without the constraints of `model/mesh.py` this program moves 12.5 times its parameters: a
    product that has both cut along `fsdp` gathers activations of the whole batch.
    """
    total = sum(leaf.nbytes for key, leaf in one.items() if key.startswith("leaf"))
    moved = hlo.collective_bytes(hlo.parse((folder / "eight.hlo").read_text()))
    assert 0.5 * total < moved["all-gather"] < 2 * total
    assert sum(moved.values()) < 3 * total


def test_a_training_of_one_device_goes_on_on_eight_and_comes_back(one, folder):
    """The second step on a mesh; then the whole state again on one device, with equal bits."""
    finish(spawn(folder / "one", 8, worker=WORKER.with_name("moved_worker.py")))
    params, loss, config, frozen = parts()
    fresh, _ = create_training(params, loss, config, 2)
    here = {jax.devices()[0]}
    # Without the frozen image tower, moments included.
    stored = load_shapes(folder / "one" / "2.1" / "state")
    assert len(stored) == len(jax.tree.leaves(fresh)) - len(frozen.leaves)
    moved = checkpoint.restore(folder / "one", fresh, 2, frozen)
    assert {device for leaf in jax.tree.leaves(moved) for device in leaf.devices()} == here
    assert int(moved.step) == 2
    for number, leaf in enumerate(jax.tree.leaves(moved.params)):
        np.testing.assert_allclose(leaf, one[f"leaf{number:02}"], rtol=1e-4, atol=1e-4)


def test_a_mesh_of_other_than_all_devices_is_refused():
    with pytest.raises(InputError, match=r"got 2 \* 4 = 8 and \d+ devices"):
        make_mesh(Hardware(data=2, fsdp=4))


def test_a_host_needs_the_rows_of_its_own_devices(monkeypatch):
    """Of a batch of 8 on four devices, those of the second of two hosts."""

    class SecondHost:
        def addressable_devices_indices_map(self, shape):
            assert shape == (8,)
            return {"device 2": (slice(4, 6),), "device 3": (slice(6, 8),)}

    mesh = make_mesh(Hardware())
    assert sharding.rows_here(mesh, 8) is None  # one host: all of them
    monkeypatch.setattr(sharding.jax, "process_count", lambda: 2)
    monkeypatch.setattr(sharding, "over_batch", lambda mesh: SecondHost())
    assert sharding.rows_here(mesh, 8).tolist() == [False] * 4 + [True] * 4
