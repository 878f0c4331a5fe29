"""Whole runs of train.py and eval.py over two hosts, which are processes of this machine.

Demonstrations, supervised training, two iterations of RIPT, evaluation and report; what the hosts
exchange is shown in small by test_talk.
"""

import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path

import hosts
import numpy as np
import pytest
from host_runs import Ground, assert_equal_training, params, until
from skips import slow

from pi0_jax.io.episodes import load_episodes

EVAL = hosts.ROOT / "eval.py"
CONFIG = """
from pi0_jax.configs import demo

def get_config():
    config = demo.get_config()
    config.suite, config.baselines = "scripted", {}
    config.task = {"max_steps": 12, "image_size": 64, "tolerance": 0.6, "speed": 0.2}
    config.pool.workers = 1
    config.execute_steps = 8
    config.demonstrations.episodes = 5
    config.sft.update({"steps": 6, "batch_size": 8, "save_every": 2})
    config.sft.optimizer.preset = config.rl.optimizer.preset = "expert_only"
    config.rl.update({"iterations": 2, "updates_per_iteration": 2, "batch_size": 8})
    config.rl.groups.update({"group_size": 4, "groups_per_iteration": 3, "max_groups": 8})
    config.eval.update({"episodes": 5, "num_flow_steps": 2, "videos": 1, "guidance": (1.0,)})
    config.hardware.fsdp = 2
    return config
"""


@pytest.fixture(scope="module")
def ground(tmp_path_factory) -> Ground:
    path = tmp_path_factory.mktemp("hosts")
    (path / "config.py").write_text(CONFIG)
    return Ground((f"--config={path / 'config.py'}",), (path, path))


@pytest.fixture(scope="module")
def one(ground) -> Path:
    """One process with two devices."""
    return ground.run("one", count=1)


@pytest.fixture(scope="module")
def two(ground) -> Path:
    """Two hosts of one device."""
    return ground.run("two")


def episodes(run: Path) -> dict[str, list]:
    return {str(p.relative_to(run)): load_episodes(p) for p in sorted(run.rglob("*.npz"))}


def rows(run: Path) -> list[dict]:
    return json.loads((run / "results.json").read_text())["rows"]


def assert_equal_runs(a: Path, b: Path) -> None:
    """Every bit but clocks."""
    assert_equal_training(a, b, "base", "policy")
    found, wanted = episodes(a), episodes(b)
    assert found.keys() == wanted.keys()
    assert "episodes/ript/002.npz" in found
    for name, members in found.items():
        for x, y in zip(members, wanted[name], strict=True):
            for field in dataclasses.fields(x):
                np.testing.assert_array_equal(getattr(x, field.name), getattr(y, field.name))
    assert rows(a) == rows(b)


@slow
def test_two_hosts_have_the_bits_of_one_process_with_two_devices(ground, one, two):
    assert_equal_runs(one, two)
    # The second host has nothing to say, and makes no folder.
    assert [line for line in ground.said("two", 1) if "Gloo" not in line] == []
    assert (two / "report.html").exists()


@slow
def test_hosts_with_disks_of_their_own_start_from_a_checkpoint(ground, two, tmp_path):
    untrained = ("--config.sft.steps=0", "--config.demonstrations.episodes=0")
    apart = Ground((*ground.config, *untrained), (tmp_path / "0", tmp_path / "1"))
    for disk in apart.disks:
        shutil.copytree(two / "base", disk / disk.name / "base")
    # Another place on each host, with one policy.
    first, second = (f"--config.init.checkpoint={disk.name}/base" for disk in apart.disks)
    one = apart.run("one", first, count=1)
    both = apart.run("both", own=((first,), (second,)))
    assert rows(one) == rows(both)
    assert_equal_training(one, both, "policy")
    assert not (apart.disks[1] / "both").exists()


@slow
def test_a_signal_to_one_host_stops_both_at_one_step(ground, two):
    ground.stop("stopped", "checkpoints/2", host=1)
    assert "error: host 1 has ended: it was interrupted; to con" in ground.said("stopped", 0)[-1]
    assert ground.said("stopped", 1)[-1].startswith("error: interrupted; to continue: ")
    assert_equal_runs(ground.run("stopped", "--resume"), two)


@slow
def test_another_number_of_hosts_goes_on(ground, two):
    ground.stop("fewer", "episodes/ript/001.npz", host=0)
    fewer = ground.run("fewer", "--resume", "--config.hardware.fsdp=1", count=1)
    assert rows(fewer) == rows(two)
    for x, y in zip(params(fewer / "policy"), params(two / "policy"), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-6)
    for name, members in episodes(fewer).items():
        outcomes = [[e.success for e in found] for found in (members, episodes(two)[name])]
        assert outcomes[0] == outcomes[1]


@slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_host_ends_the_other_within_a_minute(ground, two, killed):
    name = f"killed {killed}"
    processes = ground.start(name)
    until(ground.disks[0] / name / "episodes/ript/001.npz", processes)
    os.kill(processes[killed].pid, signal.SIGKILL)
    codes = hosts.codes(processes, 60)
    assert codes[killed] == -signal.SIGKILL
    assert codes[1 - killed] not in (0, 130)
    for host in (0, 1):
        said = [line for line in ground.said(name, host) if line.startswith("error: ")]
        assert said == [
            f"error: host {host} of 2 ended without a word: it was killed, or another host was; "
            "what was saved is kept, and --resume continues"
        ]
    assert_equal_runs(ground.run(name, "--resume"), two)


@slow
def test_hosts_share_an_evaluation(ground, two):
    policy = f"--checkpoint={two / 'policy'}"
    found = [ground.run(f"eval {n}", policy, count=n, script=EVAL) for n in (1, 2)]
    assert rows(found[0]) == rows(found[1])
    for a, b in zip(*(episodes(run)["episodes/eval/policy_1.npz"] for run in found), strict=True):
        np.testing.assert_array_equal(a.actions, b.actions)


@slow
def test_an_input_error_of_one_host_ends_both(ground, two):
    processes = ground.start("two")
    assert hosts.codes(processes, 60) == [2, 2]
    assert "holds a run already; add --resume" in ground.said("two", 0)[-1]
    assert ground.said("two", 1)[-1].startswith("error: host 0 has ended: --workdir ")
