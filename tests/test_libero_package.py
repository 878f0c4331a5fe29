"""Which package is LIBERO here: one of two, and never both."""

from pathlib import Path

import pytest

from pi0_jax.env.robosuite import libero_package
from pi0_jax.errors import InputError


@pytest.fixture(autouse=True)
def fresh():
    """The package is looked for once per process; here once per test."""
    libero_package.package.cache_clear()
    yield
    libero_package.package.cache_clear()


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(libero_package, "version", lambda name: "")
    monkeypatch.setattr(libero_package.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install .*\[libero\]"):
        libero_package.package()


def test_both_packages_together_are_one_line(monkeypatch):
    monkeypatch.setattr(libero_package, "version", lambda name: "0.1")
    with pytest.raises(InputError, match=r"both installed and overwrite.*uninstall -y") as raised:
        libero_package.package()
    assert "\n" not in str(raised.value)


def test_another_version_is_one_line(monkeypatch):
    pro = {libero_package.PRO: "0.2.0"}
    monkeypatch.setattr(libero_package, "version", lambda name: pro.get(name, ""))
    with pytest.raises(InputError, match=r"0\.2\.0 is installed; .* pip install .*==0\.1\.1"):
        libero_package.package()


def test_the_version_is_the_one_that_is_installed():
    settings = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert f'libero = ["{libero_package.PRO}=={libero_package.PRO_VERSION}"]' in settings


def test_the_version_of_a_package_that_is_not_there_is_empty():
    assert libero_package.version("no-such-package-of-libero") == ""
    assert libero_package.version("numpy")[0].isdigit()
