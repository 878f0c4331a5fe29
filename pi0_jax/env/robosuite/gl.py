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
_CARDS = ("/dev/nvidia[0-9]*", "/dev/dri/renderD*")
# robosuite imports OpenCV, whose wheel needs libGL and libglib even if nothing is drawn.
_PROBE = """
import cv2, mujoco
model = mujoco.MjModel.from_xml_string("<mujoco/>")
renderer = mujoco.Renderer(model, 8, 8)
renderer.update_scene(mujoco.MjData(model))
assert renderer.render().shape == (8, 8, 3)
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


def _cause_of_failure(name: str) -> str | None:
    """Renders once with MUJOCO_GL=name in another process; None if that works."""
    environment = {**os.environ, "MUJOCO_GL": name, "PYOPENGL_PLATFORM": name}
    command = [sys.executable, "-c", _PROBE]
    try:
        probe = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return f"no picture within {_TIMEOUT_S} s"
    if probe.returncode == 0:
        return None
    lines = [line.strip() for line in probe.stderr.splitlines() if line.strip()]
    # An exception in a destructor may follow the error that matters.
    errors = [line for line in lines if "Error:" in line and not line.startswith("Exception ")]
    return (errors or lines or [f"exit code {probe.returncode}"])[0]
