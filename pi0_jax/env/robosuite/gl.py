"""Finds an OpenGL that MuJoCo can render with, before any simulator is built.

The wheels of mujoco, PyOpenGL and opencv contain no GL driver: system libraries are needed,
either with a graphics card (EGL) or without (Mesa's OSMesa, or EGL in software).
"""

import functools
import glob
import os
import subprocess
import sys

from pi0_jax.errors import InputError

INSTALL = (
    "run `apt-get install -y libosmesa6 libgl1 libglib2.0-0` (on systems without libosmesa6: "
    "`libegl1 libgl1-mesa-dri libopengl0 libgl1 libglib2.0-0`)"
)
_TIMEOUT_S = 60
_NVIDIA = "/dev/nvidia[0-9]*"
_CARDS = (_NVIDIA, "/dev/dri/renderD*")
# robosuite imports OpenCV, whose wheel needs libGL and libglib even if nothing is drawn.
_PROBE = """
import hashlib, sys
import cv2, mujoco
model = mujoco.MjModel.from_xml_string(sys.argv[1])
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 64, 96)
renderer.update_scene(data)
picture = renderer.render()
assert picture.shape == (64, 96, 3)
print(hashlib.sha256(picture.tobytes()).hexdigest()[:12])
"""
# Light, shadow, a texture, a reflection and edges at an angle: what drivers draw differently.
_SCENE = """
<mujoco><asset>
<texture name="squares" type="2d" builtin="checker" rgb1=".1 .2 .3" rgb2=".7 .8 .9"
  width="64" height="64"/>
<material name="floor" texture="squares" texrepeat="7 7" reflectance=".3"/>
</asset><worldbody>
<light pos="1 -2 3" dir="-.3 .6 -1"/>
<geom type="plane" size="1 1 .1" material="floor"/>
<geom type="box" size=".2 .3 .2" pos="-.3 0 .3" euler="20 30 40" rgba=".9 .3 .1 1"/>
<geom type="sphere" size=".25" pos=".4 .2 .4" rgba=".2 .8 .3 .7"/>
</worldbody></mujoco>
"""


@functools.cache
def choose_renderer() -> str:
    """The value of MUJOCO_GL that works here: "egl" or "osmesa", or the one already set.

    Raises:
        InputError: nothing works; the message is one line with what to install.
    """
    wanted = os.environ.get("MUJOCO_GL")
    card = any(glob.glob(pattern) for pattern in _CARDS)  # noqa: PTH207 (absolute patterns)
    # Without a card EGL renders in software too, in the same time; OSMesa needs fewer libraries.
    candidates = (wanted,) if wanted else ("egl", "osmesa") if card else ("osmesa", "egl")
    causes = []
    for name in candidates:
        cause = _cause_of_failure(name)
        if cause is None:
            return name
        causes.append(f"{name}: {cause}")
    raise InputError(f"MuJoCo cannot render ({'; '.join(causes)}): {INSTALL}")


@functools.cache
def picture(renderer: str) -> str:
    """Digest of a small picture that this machine renders with MUJOCO_GL=`renderer`.

    Machines with other digests draw other bits: another driver, Mesa, or GPU. Equal ones may still
    differ in what the picture does not show.

    Raises:
        InputError: it cannot render so.
    """
    probe = _probe(renderer)
    if probe is None or probe.returncode != 0:
        raise InputError(f"MuJoCo cannot render ({renderer}: {_cause_of_failure(renderer)})")
    return probe.stdout.strip()


def egl_device(number: int) -> str | None:
    """MUJOCO_EGL_DEVICE_ID of the simulator with this number: the NVIDIA GPUs take turns.

    Without it all simulators of a machine draw on its first GPU. None: MuJoCo is to choose, because
    there is no such GPU, or the variable is set, or CUDA_VISIBLE_DEVICES has no plain numbers.
    """
    if "MUJOCO_EGL_DEVICE_ID" in os.environ:
        return None
    # robosuite refuses a device that is not among these.
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        devices = visible.split(",")
    else:
        devices = [str(at) for at, _ in enumerate(glob.glob(_NVIDIA))]  # noqa: PTH207 (absolute)
    if not devices or not all(device.isdigit() for device in devices):
        return None
    return devices[number % len(devices)]


def check_device() -> None:
    """Checks the two variables of which robosuite asserts, as it is imported, that they fit.

    Raises:
        InputError: they do not; in a worker it ends the run with this line.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    device = os.environ.get("MUJOCO_EGL_DEVICE_ID")
    if visible and device is not None and not (device.isdigit() and device in visible):
        raise InputError(
            f"robosuite refuses MUJOCO_EGL_DEVICE_ID={device}, which is none of "
            f"CUDA_VISIBLE_DEVICES={visible}: set it to one of them, or leave it out"
        )


def _probe(name: str) -> subprocess.CompletedProcess[str] | None:
    """Renders once with MUJOCO_GL=name in another process; None if that takes too long."""
    environment = {**os.environ, "MUJOCO_GL": name, "PYOPENGL_PLATFORM": name}
    command = [sys.executable, "-c", _PROBE, _SCENE]
    try:
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return None


def _cause_of_failure(name: str) -> str | None:
    """Why MUJOCO_GL=name does not render here; None if it does."""
    probe = _probe(name)
    if probe is None:
        return f"no picture within {_TIMEOUT_S} s"
    if probe.returncode == 0:
        return None
    lines = [line.strip() for line in probe.stderr.splitlines() if line.strip()]
    # An exception in a destructor may follow the error that matters.
    errors = [line for line in lines if "Error:" in line and not line.startswith("Exception ")]
    return (errors or lines or [f"exit code {probe.returncode}"])[0]
