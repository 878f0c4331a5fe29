"""The tree in README.md, made from the first line of every file's docstring or a notebook's title.

python scripts/readme_tree.py           # writes it into README.md
python scripts/readme_tree.py --check   # says whether it is up to date (exit code 1 if not)
"""

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
START, END = "## The tree\n\n```\n", "```\n"
# What has no docstring of its own.
_OTHERS = {
    "Makefile, scripts/": "make demo, demo-full, libero, test, lint, bench, torture, api, "
    "constraints; prepare a machine",
    "configs/": "Short names for the settings in pi0_jax/configs/",
    "bench/": "Scripts that print what they compare, side by side in one run",
    "examples/": "The library in scripts of at most 25 lines, and a notebook with its outputs",
    "tests/": "One file per module, and test_floors, test_parity, test_walks, test_demo; goldens/",
    "docs/": "Design, glossary, objectives, results, reliability, checkpoints, libero, aloha, "
    "finetune, serve, cluster, performance, troubleshooting, log",
}
_WIDTH = 26
_SKIPPED = ("__init__.py",)


def tree() -> str:
    """One line per folder and file."""
    lines = [_file("train.py"), _file("eval.py"), _file("serve.py"), _line("Makefile, scripts/")]
    for top in ("configs", "convert", "pi0_jax", "examples", "bench"):
        lines += _folder(ROOT / top, 0) if (ROOT / top).is_dir() else []
    return "\n".join([*lines, _line("tests/"), _line("docs/")]) + "\n"


def _folder(path: Path, depth: int) -> Iterator[str]:
    """A folder's own line, its files, then its folders."""
    name, indent = f"{path.name}/", "  " * depth
    own = path / "__init__.py"
    text = _first_line(own) if own.exists() else _OTHERS[name]
    yield f"{indent}{name:<{_WIDTH - len(indent)}}{text}"
    for file in sorted([*path.glob("*.py"), *path.glob("*.ipynb")]):
        if file.name not in _SKIPPED:
            # A long name is not cut: one space is the least.
            yield f"{indent}  {file.name:<{_WIDTH - len(indent) - 3}} {_first_line(file)}"
    for folder in sorted(p for p in path.iterdir() if (p / "__init__.py").exists()):
        yield from _folder(folder, depth + 1)


def _file(name: str) -> str:
    return f"{name:<{_WIDTH}}{_first_line(ROOT / name)}"


def _line(name: str) -> str:
    return f"{name:<{_WIDTH}}{_OTHERS[name]}"


def _first_line(path: Path) -> str:
    """The first line of a docstring, without its full stop; the title of a notebook."""
    if path.suffix == ".ipynb":
        return json.loads(path.read_text())["cells"][0]["source"][0].strip("# \n")
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return docstring.partition("\n")[0].removesuffix(".")


def replaced(readme: str) -> str:
    """README.md's text with the tree as it is now."""
    before, _, rest = readme.partition(START)
    _, _, after = rest.partition(END)
    return before + START + tree() + END + after


def main() -> None:
    """Writes README.md, or checks it."""
    path = ROOT / "README.md"
    text = path.read_text()
    if "--check" not in sys.argv:
        path.write_text(replaced(text))
    elif replaced(text) != text:
        sys.exit("README.md: the tree is not up to date; run python scripts/readme_tree.py")


if __name__ == "__main__":
    main()
