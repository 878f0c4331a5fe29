"""The real openpi-client of PyPI flies a whole episode of Lift with the actions of the policy."""

import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from openpi_bridge import read_arrays, write_arrays
from servers import panda_policy, running, service
from skips import NO_OPENPI, slow

from pi0_jax.env.base import Job, run, start
from pi0_jax.env.robosuite.gl import choose_renderer
from pi0_jax.env.robosuite.lift import LiftTask
from pi0_jax.env.workers.pool import SimulatorPool
from pi0_jax.episode import RawObs

CLIENT = "openpi-client==0.1.2"
BRIDGE = Path(__file__).parent / "openpi_bridge.py"
TASK = LiftTask(image_size=16, max_steps=24)
EXECUTED = 3


def pip(python: Path | str, *arguments: str) -> None:
    """Installs packages; skips where no registry is reached, and fails for any other reason."""
    command = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    unreached = ("Temporary failure in name resolution", "Connection refused", "NewConnectionError")
    if done.returncode and any(words in done.stderr for words in unreached):
        pytest.skip(NO_OPENPI)
    assert done.returncode == 0, done.stderr


def beside(folder: Path) -> Path:
    """The client alone, on the packages of these tests: it runs with a numpy that it excludes."""
    pip(sys.executable, "--no-deps", "--target", str(folder), CLIENT)
    return Path(sys.executable)


def of_its_own(folder: Path) -> Path:
    """The client with what it pins (numpy below 2), in an environment of its own."""
    venv.create(folder, with_pip=True)
    # The client imports typing_extensions and does not say so.
    pip(folder / "bin/python", CLIENT, "typing_extensions")
    return folder / "bin/python"


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorPool]:
    with SimulatorPool(1, 60, renderer=choose_renderer()) as pool:
        yield pool


def libero(obs: RawObs) -> dict[str, np.ndarray]:
    """An observation under the keys of `examples/libero/main.py`."""
    scene, wrist = obs.images
    images = {"observation/image": scene, "observation/wrist_image": wrist}
    return {**images, "observation/state": obs.state, "prompt": np.array(obs.prompt)}


@pytest.mark.parametrize("install", [beside, pytest.param(of_its_own, marks=slow)])
def test_an_episode_of_lift(install, simulator, tmp_path):
    python, policy = install(tmp_path / "client"), panda_policy()
    with running(service(policy)) as up:
        bridge = subprocess.Popen(
            [python, BRIDGE, str(up.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(tmp_path / "client")},
        )  # fmt: skip
        assert bridge.stdin and bridge.stdout
        at, steps, calls = simulator.map([Job(TASK, start, (0,))])[0], 0, 0
        while not at.success and steps < TASK.max_steps:
            write_arrays(bridge.stdin, **libero(at.obs))
            actions = read_arrays(bridge.stdout)["actions"]
            # No seed goes over the wire: the first connection's stream, counted per request.
            np.testing.assert_array_equal(actions, policy.act_seeded([at.obs], [(0, 0, calls)])[0])
            at = simulator.map([Job(TASK, run, (at.state, actions[:EXECUTED]))])[0]
            calls, steps = calls + 1, steps + len(at.actions)
        bridge.stdin.close()
        assert bridge.wait(20) == 0
    assert (steps, calls) == (24, 8)
