"""pi0-info: what a bug report needs, and why something is missing."""

import sys

import pytest

from pi0_jax.apps import info
from pi0_jax.errors import InputError


def missing() -> str:
    raise InputError("no driver")


def test_facts_name_versions_devices_renderer_and_assets(monkeypatch):
    monkeypatch.setattr(info, "choose_renderer", missing)
    monkeypatch.setattr(info, "local_assets", lambda: None)
    found = info.facts()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["jax"][0].isdigit()
    assert "cpu" in found["devices"]
    assert found["renderer"] == "none: no driver"
    assert found["LIBERO assets"] == "none; fetched at first use"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [([], 0, "renderer              osmesa\n"), (["--help"], 0, "pi0-info"), (["x"], 2, "'x'")],
)
def test_the_command_prints_and_exits(monkeypatch, capsys, arguments, code, said):
    monkeypatch.setattr(info, "choose_renderer", lambda: "osmesa")
    monkeypatch.setattr(sys, "argv", ["pi0-info", *arguments])
    with pytest.raises(SystemExit) as exited:
        info.command()
    assert exited.value.code == code
    out, errors = capsys.readouterr()
    assert said in (errors if code else out)
