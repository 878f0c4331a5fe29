"""The choice of a GL backend, and the one line a user sees where there is none."""

import pytest

from pi0_jax.env.robosuite import gl
from pi0_jax.env.workers.worker import _is_fatal
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


@pytest.mark.parametrize(
    ("cards", "visible", "expected"),
    [
        (0, None, [None, None, None]),
        (1, None, ["0", "0", "0"]),
        (2, None, ["0", "1", "0"]),
        (2, "", ["0", "1", "0"]),
        # robosuite refuses others than these.
        (8, "5,7", ["5", "7", "5"]),
        # Of such names nobody knows the number.
        (8, "GPU-8932f937", [None, None, None]),
        (8, "-1", [None, None, None]),
    ],
)
def test_simulators_draw_on_the_gpus_in_turn(monkeypatch, tmp_path, cards, visible, expected):
    for card in range(cards):
        (tmp_path / f"nvidia{card}").touch()
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(gl, "_NVIDIA", str(tmp_path / "nvidia[0-9]*"))
    monkeypatch.delenv("MUJOCO_EGL_DEVICE_ID", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gl.egl_device(number) for number in range(3)] == expected


def test_a_device_that_is_set_stays(monkeypatch):
    monkeypatch.setenv("MUJOCO_EGL_DEVICE_ID", "3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert gl.egl_device(0) is None


@pytest.mark.parametrize(
    ("visible", "device", "fits"),
    [
        (None, "0", True),
        ("", "0", True),
        ("1", None, True),
        ("0,1", "1", True),
        # What people set on shared machines: GPU 1 is visible, and is the first that is.
        ("1", "0", False),
        ("GPU-8932f937", "0", False),
        ("0", "cuda:0", False),
    ],
)
def test_a_device_that_robosuite_refuses_is_one_line(monkeypatch, visible, device, fits):
    """Otherwise every worker would end in an AssertionError of robosuite's import."""
    for name, value in (("CUDA_VISIBLE_DEVICES", visible), ("MUJOCO_EGL_DEVICE_ID", device)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    if fits:
        gl.check_device()
        return
    says = f"MUJOCO_EGL_DEVICE_ID={device}, which is none of CUDA_VISIBLE_DEVICES={visible}"
    with pytest.raises(InputError, match=says) as caught:
        gl.check_device()
    assert _is_fatal(caught.value)


def test_a_machine_that_cannot_render_has_no_picture():
    with pytest.raises(InputError, match=r"cannot render \(nonsense: RuntimeError: invalid value"):
        gl.picture("nonsense")
