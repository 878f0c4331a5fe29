"""Packages that only some commands need."""

import sys

import pytest

from pi0_jax.errors import InputError
from pi0_jax.optional import needed


def test_a_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    said = r"^this needs wandb: run `pip install wandb`$"
    with pytest.raises(InputError, match=said), needed("this", "pip install wandb"):
        import wandb  # noqa: F401


def test_an_installed_package_that_cannot_be_loaded_keeps_its_own_error():
    said = "cannot allocate memory"
    with pytest.raises(ImportError, match=said), needed("this", "pip install wandb"):
        raise ImportError(f"libx.so: {said}")
