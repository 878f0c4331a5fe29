"""The choice of a GL backend, and the one line a user sees where there is none."""

import pytest

from pi0_jax.env.robosuite import gl
from pi0_jax.errors import InputError


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    gl.choose_renderer.cache_clear()
    yield
    gl.choose_renderer.cache_clear()


def test_something_renders_here():
    assert gl.choose_renderer() in ("egl", "osmesa")


@pytest.mark.parametrize(
    ("cards", "order"), [((), ["osmesa", "egl"]), (("/dev/nu*l",), ["egl", "osmesa"])]
)
def test_a_card_is_preferred_to_software(monkeypatch, cards, order):
    tried = []
    monkeypatch.setattr(gl, "_CARDS", cards)
    monkeypatch.setattr(gl, "_cause_of_failure", lambda name: tried.append(name) or "no")
    with pytest.raises(InputError):
        gl.choose_renderer()
    assert tried == order


def test_a_backend_that_is_set_is_the_only_one_tried(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    with pytest.raises(InputError, match="nonsense: RuntimeError: invalid value") as caught:
        gl.choose_renderer()
    assert "osmesa:" not in str(caught.value)


def test_a_missing_library_leads_to_what_to_install(monkeypatch):
    probe = "raise ImportError('libGL.so.1: cannot open shared object file')"
    monkeypatch.setattr(gl, "_PROBE", probe)
    with pytest.raises(InputError, match=r"libGL\.so\.1: cannot open") as caught:
        gl.choose_renderer()
    message = str(caught.value)
    assert "apt-get install -y libosmesa6 libgl1 libglib2.0-0" in message
    assert "\n" not in message
