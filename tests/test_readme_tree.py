"""README's tree is the tree."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("readme_tree", ROOT / "scripts/readme_tree.py")
readme_tree = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(readme_tree)


def test_the_readme_names_every_file_as_its_docstring_does():
    """If this fails: python scripts/readme_tree.py."""
    text = (ROOT / "README.md").read_text()
    assert readme_tree.replaced(text) == text


def test_every_file_has_a_line():
    lines = readme_tree.tree().splitlines()
    for name in ("mask.py", "pool.py", "demo.py", "torch_to_flax.py", "first_steps.ipynb"):
        (line, *_) = [x for x in lines if x.split()[0] == name]
        assert len(line.split()) > 3, line
