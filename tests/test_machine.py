"""What is compared between machines before one simulates for the other."""

import shutil

import pytest

from pi0_jax import env
from pi0_jax.env.robosuite import gl
from pi0_jax.env.workers import machine
from pi0_jax.env.workers.machine import describe, differences


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """Rendering one takes seconds."""
    monkeypatch.setattr(machine, "picture", lambda renderer: f"{renderer}-bits")


def test_a_machine_by_what_decides_its_bits(tmp_path):
    found = describe("egl", [str(tmp_path / "nowhere")])
    assert found["mujoco"].startswith("3.3.")
    assert found["egl picture"] == "egl-bits"
    assert found[f"assets {tmp_path / 'nowhere'}"] == "missing"
    assert differences(found, describe("egl", [str(tmp_path / "nowhere")])) == ""


def test_assets_are_told_apart(tmp_path):
    name = f"assets {tmp_path}"
    (tmp_path / "cup.xml").write_text("<mujoco/>")
    before = describe("egl", [str(tmp_path)])
    (tmp_path / "cup.xml").write_text("<mujoco />")
    assert list(differences(before, describe("egl", [str(tmp_path)])).split(" in place of ")) == [
        f"{name} {describe('egl', [str(tmp_path)])[name]}",
        before[name],
    ]


def test_older_code_is_told_apart(monkeypatch, tmp_path):
    now = describe("egl", [])
    shutil.copytree(next(iter(env.__path__)), tmp_path / "env")
    monkeypatch.setattr(env, "__path__", [str(tmp_path / "env")])
    assert differences(now, describe("egl", [])) == ""
    with (tmp_path / "env" / "scripted.py").open("a") as file:
        file.write("# older")
    assert differences(now, describe("egl", [])).startswith("pi0_jax/env ")


def test_differences_are_one_line():
    expected = {"mujoco": "3.3.7", "numpy": "2.3", "egl picture": "a1"}
    found = {"mujoco": "3.3.6", "numpy": "2.3"}
    assert differences(expected, found) == (
        "mujoco 3.3.6 in place of 3.3.7, egl picture None in place of a1"
    )


def test_two_pictures_of_one_machine_are_equal():
    renderer = gl.choose_renderer()
    one = gl.picture(renderer)
    gl.picture.cache_clear()
    assert gl.picture(renderer) == one
    assert len(one) == 12
