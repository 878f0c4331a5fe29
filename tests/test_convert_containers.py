"""What lies beside the weights in a saved object is harmless, or an error that names it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pi0_jax.convert.files.containers import flatten
from pi0_jax.convert.files.torch_files import open_tensors
from pi0_jax.errors import InputError

STATE = {"a.weight": torch.zeros(2), "b.bias": torch.ones(3)}
FILE = Path("x.pt")


@pytest.mark.parametrize("wrap", [[], ["model"], ["state_dict", "model"], ["a", "b", "c"]])
def test_containers_become_part_of_the_names(wrap: list[str]) -> None:
    loaded: Any = STATE
    for name in reversed(wrap):
        loaded = {name: loaded}
    found = flatten(loaded, FILE)
    assert list(found.tensors) == ["/".join([*wrap, key]) for key in STATE]
    assert found.tensors["/".join([*wrap, "b.bias"])] is STATE["b.bias"]


def test_states_of_a_training_are_harmless() -> None:
    beside = {
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}}],
        "lr_schedulers": [{"last_epoch": 3}],
        "step": torch.tensor(7),
        "epoch": 3,
        "args": {"lr": [0.1, 0.2]},
        "pytorch-lightning_version": "2.5",
        "_extra_state": None,
    }
    found = flatten({"model": STATE} | beside, FILE)
    assert list(found.tensors) == ["model/a.weight", "model/b.bias"]
    assert sorted(found.beside) == sorted(beside)


def test_numbers_may_be_statistics() -> None:
    stats = {"state": {"mean": [0.5, 1.5], "std": [1.0, 2.0]}}
    with pytest.raises(InputError, match="holds stats/state/mean, stats/state/std beside the wei"):
        flatten({"model": STATE, "stats": stats}, FILE)


def test_a_scaler_of_actions_is_none_of_a_loss() -> None:
    scalers = {"grad_scaler": {"scale": [1.0]}, "action_scaler": {"mean": [0.5, 1.5]}}
    with pytest.raises(InputError, match="holds action_scaler/mean beside the weights"):
        flatten({"model": STATE} | scalers, FILE)


def test_tensors_of_another_container_keep_its_name() -> None:
    found = flatten({"model": STATE, "ema": {"shadow": [torch.zeros(1)]}}, FILE)
    assert list(found.tensors)[-1] == "ema/shadow/0"


@pytest.mark.parametrize(
    ("loaded", "message"),
    [
        ([1, 2], "found a list"),
        ({"weights": "x.bin", "step": 3}, "found weights, step"),
        ({}, "found nothing"),
    ],
)
def test_no_tensors(loaded: object, message: str) -> None:
    with pytest.raises(InputError, match=rf"expected a dict of tensors.+{message}"):
        flatten(loaded, FILE)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.eye(2).to_sparse(), "a.weight is torch.sparse_coo"),
        (torch.empty(2, device="meta"), "a.weight has no values"),
    ],
)
def test_tensors_without_all_values(tensor: torch.Tensor, message: str, tmp_path: Path) -> None:
    torch.save({"a.weight": tensor}, tmp_path / "x.pt")
    with pytest.raises(InputError, match=message):
        open_tensors([tmp_path / "x.pt"])
