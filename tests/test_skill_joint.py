"""A drawer's slide and a knob's hinge, as a skill sees them, in a model that fits on a page."""

import mujoco
import numpy as np
import pytest

from pi0_jax.env.robosuite.skills.joint import Joint

# A drawer that opens towards +y, as LIBERO's do after half a turn, with a bar in front of its
# front; and a knob.
MODEL = """
<mujoco>
  <worldbody>
    <body name="cabinet" pos="0 0 1" quat="0 0 0 1">
      <body name="drawer">
        <joint name="drawer" type="slide" axis="0 1 0" range="-0.16 0.01"/>
        <geom name="front" type="box" size="0.1 0.01 0.05" pos="0 -0.1 0"/>
        <geom name="bar" type="box" size="0.04 0.01 0.01" pos="0 -0.15 0.02"/>
      </body>
    </body>
    <body name="knob" pos="1 2 0.5">
      <joint name="knob" type="hinge" axis="0 0 1" range="-0.005 2.1"/>
      <geom type="box" size="0.01 0.03 0.02"/>
    </body>
  </worldbody>
</mujoco>
"""


def joint(name: str, value: float) -> Joint:
    model = mujoco.MjModel.from_xml_string(MODEL)
    data = mujoco.MjData(model)
    data.joint(name).qpos[:] = value
    mujoco.mj_kinematics(model, data)
    return Joint(model, data, model.joint(name).id)


def test_a_drawer_opens_towards_the_far_end_of_its_range():
    drawer = joint("drawer", -0.06)
    np.testing.assert_allclose(drawer.way, [0, 1, 0], atol=1e-9)
    assert drawer.value == pytest.approx(0.06)
    assert drawer.travel == pytest.approx(0.16)


def test_the_handle_is_what_stands_out_and_moves_with_the_drawer():
    np.testing.assert_allclose(joint("drawer", 0.0).handle(), [0, 0.15, 1.02], atol=1e-9)
    np.testing.assert_allclose(joint("drawer", -0.1).handle(), [0, 0.25, 1.02], atol=1e-9)


def test_a_knob_turns_about_its_anchor():
    knob = joint("knob", 0.5)
    np.testing.assert_allclose(knob.way, [0, 0, 1], atol=1e-9)
    np.testing.assert_allclose(knob.anchor, [1, 2, 0.5], atol=1e-9)
    assert knob.value == pytest.approx(0.5)
    # Its grip has turned with it: 6 cm long, and 2 cm wide.
    assert np.ptp(knob.points()[:, 1]) == pytest.approx(0.06 * np.cos(0.5) + 0.02 * np.sin(0.5))
