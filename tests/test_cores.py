"""How many cores there are for simulators, under all who may limit them."""

import os

import pytest

from pi0_jax.env.workers import cores as module
from pi0_jax.env.workers.cores import cores


@pytest.fixture(autouse=True)
def sixteen(monkeypatch, tmp_path):
    """A machine of 16 cores where nobody limits anything."""
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr(module, "_affinity", lambda: 16)
    monkeypatch.setattr(module, "_GROUPS", tmp_path)
    monkeypatch.setattr(module, "_OWN_GROUP", tmp_path / "own")


def test_affinity_counts(monkeypatch):
    monkeypatch.undo()
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_without_limits_all_are_ours(tmp_path):
    assert cores() == 16
    (tmp_path / "own").write_text("0::/\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cores() == 16


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        # A pod: its group is the root that it sees.
        ("0::/", {"cpu.max": "400000 100000"}, 4),
        # Half a core is one simulator, 2.5 cores are two.
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "250000 100000"}, 2),
        # The group above has less.
        ("0::/job/step", {"job/step/cpu.max": "max 100000", "job/cpu.max": "300000 100000"}, 3),
        # A folder that the container does not see.
        ("0::/docker/abc", {"cpu.max": "200000 100000"}, 2),
        # Version 1, where other controllers have groups of their own.
        (
            "3:memory:/m\n2:cpu,cpuacct:/pod",
            {"cpu/pod/cpu.cfs_quota_us": "600000", "cpu/pod/cpu.cfs_period_us": "100000"},
            6,
        ),
        (
            "2:cpu,cpuacct:/",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            16,
        ),
    ],
)
def test_quota_of_a_container(tmp_path, own, files, expected):
    (tmp_path / "own").write_text(f"{own}\n")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    assert cores() == expected


def test_slurm_says_how_many(monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "12")
    assert cores() == 12
    (tmp_path / "own").write_text("0::/\n")
    (tmp_path / "cpu.max").write_text("500000 100000\n")
    assert cores() == 5  # the least of all
