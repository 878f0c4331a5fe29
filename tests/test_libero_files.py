"""LIBERO's files: found without importing it, read without running what they hold."""

import pickle
import zipfile

import numpy as np
import pytest
from skips import needs_libero

from pi0_jax.env.robosuite import libero_files
from pi0_jax.errors import InputError


@pytest.fixture
def fake_package(tmp_path, monkeypatch):
    """A LIBERO without its files."""
    (tmp_path / "libero" / "bddl_files").mkdir(parents=True)
    monkeypatch.setattr(libero_files, "package", lambda: tmp_path / "libero")
    monkeypatch.delenv(libero_files.ASSETS_VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "libero"


def store(package, content: bytes) -> None:
    path = package / "init_files" / "suite" / "task.pruned_init"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)


@needs_libero
@pytest.mark.parametrize(
    ("suite", "width"), [("libero_spatial", 92), ("libero_object", 110), ("libero_goal", 79)]
)
def test_initial_states(suite, width):
    for name in libero_files.task_names(suite):
        states = libero_files.initial_states(suite, name)
        assert states.shape == (50, width)
        assert states.dtype == np.float64
        assert np.isfinite(states).all()
        assert len(np.unique(states, axis=0)) == 50
        assert libero_files.goal_file(suite, name).is_file()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("open_the_middle_drawer_of_the_cabinet", "open the middle drawer of the cabinet"),
        ("KITCHEN_SCENE3_turn_on_the_stove", "turn on the stove"),
        ("LIVING_ROOM_SCENE10_put_it_there", "put it there"),
    ],
)
def test_the_instruction_is_the_file_name_without_its_scene(name, said):
    assert libero_files.instruction(name) == said


def test_an_array_is_read_and_code_is_not_run(fake_package, tmp_path):
    states = np.arange(6.0).reshape(2, 3)
    store(fake_package, pickle.dumps(states, protocol=2))
    np.testing.assert_array_equal(libero_files.initial_states("suite", "task"), states)


class _Evil:
    def __reduce__(self):
        import os

        return os.mkdir, ("hacked",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(_Evil()), "it asks for posix.mkdir"),
        (pickle.dumps([1, 2]), "expected float64"),
        (b"no pickle", "initial states"),
    ],
)
def test_other_contents_are_refused(fake_package, tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    store(fake_package, content)
    with pytest.raises(InputError, match=message):
        libero_files.initial_states("suite", "task")
    assert not (tmp_path / "hacked").exists()


def make_assets(folder):
    for name in ("scenes", "textures"):
        (folder / name).mkdir(parents=True)
    return folder


def test_assets_come_from_config_then_variable_then_package(fake_package, tmp_path, monkeypatch):
    own = make_assets(fake_package / "assets")
    assert libero_files.assets("") == own
    named = make_assets(tmp_path / "named")
    monkeypatch.setenv(libero_files.ASSETS_VARIABLE, str(named))
    assert libero_files.assets("") == named
    given = make_assets(tmp_path / "given")
    assert libero_files.assets(str(given)) == given
    (given / "scenes").rmdir()
    with pytest.raises(InputError, match="without scenes"):
        libero_files.assets(str(given))


def test_without_assets_the_error_says_every_way(fake_package, monkeypatch):
    import huggingface_hub

    def unreachable(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(InputError, match=r"config\.task\.assets.*LIBERO_ASSETS.*hub"):
        libero_files.assets("")


def test_the_package_s_own_download_is_used(fake_package, monkeypatch, tmp_path):
    import huggingface_hub

    folder = make_assets(tmp_path / "hub")
    asked = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *args, **kw: asked.append(args) or folder
    )
    assert libero_files.assets("") == folder
    assert asked == [("lerobot/libero-assets",)]


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(libero_files.importlib.util, "find_spec", lambda name: None)
    libero_files.package.cache_clear()
    with pytest.raises(InputError, match=r"pip install .*\[libero\]"):
        libero_files.package()
    libero_files.package.cache_clear()
