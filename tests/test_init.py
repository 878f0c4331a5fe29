"""`import pi0_jax`: every public name is there, and costs nothing until it is used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pi0_jax


def test_importing_the_package_imports_no_jax():
    code = "import sys, pi0_jax; pi0_jax.RawObs, pi0_jax.Robot; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", pi0_jax.__all__)
def test_every_public_name_is_there_and_has_a_docstring(name):
    value = getattr(pi0_jax, name)
    assert name in dir(pi0_jax)
    assert isinstance(value, str) or value.__doc__


def test_type_checkers_see_the_same_names():
    """The imports under TYPE_CHECKING are those that happen when a name is used."""
    tree = ast.parse(Path(pi0_jax.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen.keys() == set(pi0_jax.__all__) - {"__version__"}
    for name, module in seen.items():
        assert sys.modules[module], name
        assert getattr(sys.modules[module], name) is getattr(pi0_jax, name)


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="module 'pi0_jax' has no attribute 'Polcy'"):
        _ = pi0_jax.Polcy
