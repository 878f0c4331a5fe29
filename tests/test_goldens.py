"""The reference data itself: all of it is there, and what is put together is what was written."""

import hashlib
import json

import numpy as np
import pytest
from checkpoints import GOLDENS, TorchGolden
from safetensors.numpy import load_file

from pi0_jax.io.orbax_tree import load_tree
from pi0_jax.io.tree_check import shapes_by_path

SHARING = sorted(path.parent.name for path in GOLDENS.glob("*/same_as_openpi.json"))


def digest(tensors: dict[str, np.ndarray]) -> str:
    """sha256 of names, types, shapes and bytes, in the order of the names."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        found.update(tensors[name].tobytes())
    return found.hexdigest()


def test_six_layouts_share_the_values_of_openpi() -> None:
    assert len(SHARING) == 6


@pytest.mark.parametrize("name", SHARING)
def test_a_shared_layout_is_the_file_that_its_library_wrote(
    torch_golden: TorchGolden, name: str
) -> None:
    described = json.loads((GOLDENS / name / "same_as_openpi.json").read_text())
    assert digest(load_file(torch_golden(name) / "model.safetensors")) == described["sha256"]


@pytest.mark.parametrize("model", ["pi0", "pi05"])
def test_weights_and_gradient_norms_name_the_same_parameters(model: str) -> None:
    weights = load_tree(GOLDENS / f"tiny_{model}_released/params")["params"]
    listed = json.loads((GOLDENS / f"tiny_{model}_params.json").read_text())
    norms = json.loads((GOLDENS / f"tiny_{model}_grad_norms.json").read_text())
    shapes = {path: list(shape) for path, shape in shapes_by_path(weights).items()}
    wanted = {k: v["shape"] for k, v in listed["params"].items()} if "params" in listed else listed
    assert shapes == wanted
    assert shapes.keys() == norms.keys()


def test_the_data_stay_below_19_megabytes() -> None:
    assert sum(path.stat().st_size for path in GOLDENS.rglob("*")) < 19e6
