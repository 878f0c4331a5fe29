"""Writes one page per module of pi0_jax to docs/api/, from its docstrings.

python scripts/api.py
"""

import os
import pkgutil
import shutil
from pathlib import Path

# GLFW starts a child process to find its version when MuJoCo is imported; pdoc forbids that
# without this.
os.environ["PDOC_ALLOW_EXEC"] = "1"

import jax
import pdoc
import pdoc.render

import pi0_jax

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "api"


def main() -> None:
    """Replaces all pages."""
    show_whole_package()
    # The class has a private module in its name, which every signature would show.
    jax.Array.__qualname__ = "Array"
    shutil.rmtree(PAGES, ignore_errors=True)
    pdoc.render.configure(docformat="google", template_directory=ROOT / "scripts" / "api")
    pdoc.pdoc("pi0_jax", output_directory=PAGES)


def show_whole_package() -> None:
    """Adds what pdoc misses in a package with `__all__`: lazy names and submodules."""
    lazy = list(getattr(pi0_jax, "__all__", ()))
    for name in lazy:
        setattr(pi0_jax, name, getattr(pi0_jax, name))
    if lazy:
        submodules = [module.name for module in pkgutil.iter_modules(pi0_jax.__path__)]
        setattr(pi0_jax, "__all__", [*lazy, *submodules])  # noqa: B010


if __name__ == "__main__":
    main()
