"""The house has floors: a module imports downwards, and foreign packages stay where they belong."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A string is one room: what is inside may import each other, without cycles.
FLOORS = (
    (
        "errors",
        "hosts",
        "plain_file",
        "robot",
        "robots",
        "types",
        "episode",
        "pictures",
        "versions",
        "plain_values",
        "json_file",
        "npz_file",
        "inside",
        "listing",
        "interruption",
        "ranges",
        "optional",
    ),
    ("model", "data", "env", "io"),
    ("policy", "training"),
    ("run", "convert", "testing"),
    ("rollout", "report", "serve"),
    ("rl",),
    ("apps",),
    ("configs",),
    ("train.py", "eval.py", "serve.py", "commands", "scripts", "check"),
)
# Rooms inside the room of the converters.
CONVERT_FLOORS = (
    ("files", "keys"),
    ("settings",),
    ("sources",),
    ("into", "out", "compare"),
    ("commands",),
)
LEVEL = {room: level for level, floor in enumerate(FLOORS) for room in floor}
ALLOWED = {("types", "errors"), ("robot", "errors"), ("episode", "errors"), ("episode", "robot")}
ALLOWED |= {
    ("plain_values", "errors"),
    ("hosts", "errors"),
    ("hosts", "interruption"),
    ("robots", "errors"),
    ("robots", "robot"),
    ("robots", "plain_values"),
    ("plain_file", "errors"),
    ("inside", "errors"),
    ("ranges", "errors"),
    ("optional", "errors"),
    ("json_file", "errors"),
    ("json_file", "plain_file"),
    ("npz_file", "errors"),
    ("npz_file", "plain_file"),
    ("robots", "json_file"),
    ("robot", "plain_values"),
}
# Who alone may import a package.
KEEPERS = {
    "flax.linen": ("pi0_jax/model/",),
    "torch": ("pi0_jax/convert/", "tests/"),
    "transformers": ("pi0_jax/convert/", "tests/"),
    "orbax": ("pi0_jax/io/orbax_tree.py", "pi0_jax/convert/", "tests/"),
    "robosuite": ("pi0_jax/env/robosuite/", "tests/"),
    "mujoco": ("pi0_jax/env/robosuite/", "pi0_jax/env/aloha/", "tests/"),
    "gym_aloha": ("pi0_jax/env/aloha/", "tests/"),
    "ray": ("pi0_jax/env/cluster/", "tests/"),
    "websockets": ("pi0_jax/serve/", "tests/"),
    "msgpack": ("pi0_jax/serve/wire.py", "tests/"),
    "prometheus_client": ("pi0_jax/serve/metrics.py", "tests/"),
}
COMMANDS = ("pi0_jax.data.export",)
SCRIPTS = ("train.py", "eval.py", "serve.py")
FILES = [
    path.relative_to(ROOT)
    for folder in ("pi0_jax", "convert", "configs", "scripts")
    for path in sorted((ROOT / folder).rglob("*.py"))
] + [Path(script) for script in SCRIPTS]


def name(path: Path) -> str:
    """Dotted module name; a package is its __init__."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


MODULES = {name(path): path for path in FILES}


def imports(path: Path, *, head: bool = False) -> set[str]:
    """Dotted names of everything a file imports, or of what runs when it is imported (`head`)."""
    found = set()
    tree = ast.parse((ROOT / path).read_text())
    for node in tree.body if head else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import absolutely"
            # `from package import module` imports the module.
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own(imported: str) -> str | None:
    """The module of this house that a dotted name belongs to."""
    while imported and imported not in MODULES:
        imported = imported.rpartition(".")[0]
    return imported or None


def room(module: str) -> str:
    """Where a module lives: "rl" for pi0_jax.rl.iteration, "train.py" for that file."""
    if f"{module}.py" in SCRIPTS:  # serve.py is not in the room pi0_jax/serve
        return f"{module}.py"
    if module in COMMANDS:  # such as pi0_jax.data.export: only its name is in the room of data
        return "commands"
    parts = module.removeprefix("pi0_jax.").split(".")
    return parts[0]


def test_modules_are_found():
    assert len(MODULES) > 45
    assert "flax.linen" in imports(Path("pi0_jax/model/gemma.py"))
    assert "pi0_jax.policy.policy" in map(own, imports(Path("pi0_jax/rollout/evaluate.py")))


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_go_down(path):
    here = room(name(path))
    if here == "pi0_jax":
        return  # the list of public names: nothing is imported before it is used
    assert here in LEVEL, f"{path}: give it a floor"
    for imported in filter(None, map(own, imports(path))):
        there = room(imported)
        if there in (here, "pi0_jax") or (here, there) in ALLOWED:
            continue
        assert LEVEL[there] < LEVEL[here], f"{path} imports {imported}, which is not below it"


def test_the_rooms_of_the_converters_have_floors_too():
    level = {room: i for i, floor in enumerate(CONVERT_FLOORS) for room in floor}
    start, seen = "pi0_jax.convert.", 0
    for module, path in MODULES.items():
        if not module.startswith(start) or path.name == "__init__.py":
            continue
        here = module.removeprefix(start).split(".")[0]
        for imported in filter(None, map(own, imports(path))):
            there = imported.removeprefix(start).split(".")[0]
            if imported.startswith(start) and there != here:
                seen += 1
                assert level[there] < level[here], f"{path} imports {imported}, not below it"
    assert seen > 50


@pytest.mark.parametrize("path", FILES, ids=str)
def test_foreign_packages_stay_where_they_belong(path):
    foreign = imports(path)
    for package, keepers in KEEPERS.items():
        if any(i == package or i.startswith(f"{package}.") for i in foreign):
            assert str(path).startswith(keepers), f"{path} imports {package}"
    packages = {imported.split(".")[0] for imported in foreign}
    if path.parts[:2] == ("pi0_jax", "env"):
        assert not packages & {"jax", "torch", "flax", "optax"}, (
            f"{path}: a simulator is no trainer"
        )
    if path.parts[:2] == ("pi0_jax", "configs"):
        assert packages <= {"ml_collections", "typing", "pi0_jax"}, f"{path}: a config is values"


def test_no_cycles():
    """Of imports at the head; a task may build its simulator, which knows the task."""
    graph = {
        module: {own(imported) for imported in imports(path, head=True)} - {None, module}
        for module, path in MODULES.items()
    }
    list(graphlib.TopologicalSorter(graph).static_order())  # raises a CycleError that names it


def test_no_mutual_edges_between_packages():
    edges = {
        (room(module), room(imported))
        for module, path in MODULES.items()
        for imported in filter(None, map(own, imports(path)))
    }
    assert [(a, b) for a, b in edges if a < b and (b, a) in edges] == []
