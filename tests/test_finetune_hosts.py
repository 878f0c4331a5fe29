"""Fine-tuning over two hosts, which are processes of this machine, each with a disk of its own."""

import shutil
from pathlib import Path

import hosts
import lerobot_folders
import pytest
from host_runs import Ground, assert_equal_training
from lerobot_folders import LEROBOT, Sound
from skips import slow

from pi0_jax.policy.folder import save_policy
from pi0_jax.testing import tiny_policy

# Paths are relative: they are the same on all hosts, and lead to another copy on each.
CONFIG = (
    "--config=finetune:robot=libero_panda,preset=debug",
    "--config.init.checkpoint=base",
    "--config.demonstrations.lerobot=data",
    "--config.held_out.windows=5",
    "--config.held_out.share=0.25",
    "--config.sft.steps=24",
    "--config.sft.save_every=8",
    "--config.sft.batch_size=4",
    "--config.sft.augment=True",
    "--config.sft.optimizer.preset=expert_only",
    "--config.rows=4",
    "--config.hardware.fsdp=2",
)


@pytest.fixture(scope="module")
def ground(tmp_path_factory) -> Ground:
    """Two disks with copies of a policy and of a LeRobot folder."""
    path = tmp_path_factory.mktemp("finetune_hosts")
    save_policy(path / "0/base", tiny_policy(), {})
    data = Sound(["lift", "stack", "lift", "stack"], [9, 8, 9, 7], 16)
    lerobot_folders.write(path / "0/data", "v2.1", data, LEROBOT)
    shutil.copytree(path / "0", path / "1")
    return Ground(CONFIG, (path / "0", path / "1"))


@pytest.fixture(scope="module")
def one(ground) -> Path:
    """One process with two devices."""
    return ground.run("one", count=1)


def assert_equal_runs(a: Path, b: Path, other: Path) -> None:
    assert_equal_training(a, b, "start", "policy")
    predicted = [(run / "held_out/episodes.json").read_text() for run in (a, b)]
    assert predicted[0] == predicted[1]
    # The second host has nothing but what was given to it.
    assert not (other / b.name).exists()


@slow
def test_two_hosts_have_the_bits_of_one_process_with_two_devices(ground, one):
    assert_equal_runs(one, ground.run("two"), ground.disks[1])
    assert [line for line in ground.said("two", 1) if "Gloo" not in line] == []


@slow
def test_a_signal_to_one_host_stops_both_and_resume_goes_on(ground, one):
    ground.stop("stopped", "checkpoints/8", host=1, timeout=120)
    assert_equal_runs(one, ground.run("stopped", "--resume"), ground.disks[1])


@slow
def test_a_host_with_other_data_is_refused(ground):
    for disk, last in zip(ground.disks, (7, 6), strict=True):
        data = Sound(["lift"] * 4, [9, 8, 9, last], 16)
        lerobot_folders.write(disk / "mixed up/data", "v2.1", data, LEROBOT)
    processes = ground.start("other", "--config.demonstrations.lerobot=mixed up/data")
    assert hosts.codes(processes, 600) == [2, 2]
    for host in (0, 1):
        assert "has another demonstrations_digest than host 0" in ground.said("other", host)[-1]
    assert not (ground.disks[0] / "other").exists()
