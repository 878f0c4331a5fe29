"""What SECURITY.md says of the code, read from the code: nothing that a stranger wrote is run."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Between a run and its own workers; LIBERO's old files, by an unpickler that knows arrays alone.
UNPICKLES = {
    "pi0_jax/env/workers/worker.py": ("pickle.loads",),
    # From a cluster that is trusted as the machine is.
    "pi0_jax/env/cluster/actor.py": ("pickle.loads",),
    "pi0_jax/env/robosuite/libero_files.py": ("pickle.Unpickler",),
}
NEVER = ("eval", "exec", "os.system", "os.popen", "marshal.loads", "shelve.open", "joblib.load")
PICKLES = ("pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load", "dill.load")


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call | ast.ClassDef]]:
    """Dotted name of everything that is called, and of every base class."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node
        elif isinstance(node, ast.ClassDef):
            yield from ((ast.unparse(base), node) for base in node.bases)


def faults(source: str, name: str) -> list[str]:
    """What a file does that would let a stranger's file run code."""
    found = []
    for called, node in calls(ast.parse(source)):
        keywords = node.keywords if isinstance(node, ast.Call) else []
        given = {k.arg: ast.unparse(k.value) for k in keywords}
        pickles = called in PICKLES and called not in UNPICKLES.get(name, ())
        torch = called == "torch.load" and given.get("weights_only") != "True"
        numpy = called == "np.load" and given.get("allow_pickle") != "False"
        yaml = called in ("yaml.load", "yaml.unsafe_load") and "_Loader" not in ast.unparse(node)
        if called in NEVER or pickles or torch or numpy or yaml or given.get("shell") == "True":
            found.append(f"{name}:{node.lineno}: {called}")
    return found


FILES = sorted(
    path
    for folder in ("pi0_jax", "convert", "configs", "scripts")
    for path in (ROOT / folder).rglob("*.py")
)


def test_no_file_of_a_stranger_is_run():
    found = [f for path in FILES for f in faults(path.read_text(), str(path.relative_to(ROOT)))]
    assert found == []
    assert len(FILES) > 200


@pytest.mark.parametrize(
    "line",
    [
        "pickle.load(file)",
        "class U(pickle.Unpickler): pass",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "eval(text)",
        "yaml.load(text, yaml.Loader)",
        "subprocess.run(command, shell=True)",
    ],
)
def test_this_test_sees(line):
    assert len(faults(line, "x.py")) == 1


def test_every_test_that_the_page_names_is_there():
    page = (ROOT / "SECURITY.md").read_text()
    named = {part.split("`")[0] for part in page.split("`tests/")[1:]}
    assert len(named) > 5
    for name in named:
        assert (ROOT / "tests" / name).is_file(), name
