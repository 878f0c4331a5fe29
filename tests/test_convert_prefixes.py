"""Prefixes and wrappers are taken off where there is one way to do it, and named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pi0_jax.convert.sources.prefixes import prefixes, strip
from pi0_jax.errors import InputError

OPENPI = ["action_out_proj.weight", "paligemma_with_expert.layers.0.q"]
LEROBOT = [f"model.{key}" for key in OPENPI]
TRANSFORMERS = ["action_out_proj.weight", "model.vlm.layers.0.q", "embed_action_time.x"]
BARE = ["action_out_proj.weight", "img.stem.weight", "llm.layers.0.q"]
HERE = Path("ckpt")


class Named:
    """`Tensors` whose values are their numbers."""

    def __init__(self, keys: list[str]):
        self.keys, self.files, self.metadata, self.beside = keys, [], {}, []
        self.shapes: dict[str, tuple[int, ...]] = dict.fromkeys(keys, ())
        self.dtypes = dict.fromkeys(keys, "float32")

    def read(self, key: str) -> np.ndarray:
        return np.array(self.keys.index(key))


def stripped(keys: list[str], container: str | None = None) -> list[str]:
    """The new names, in the order of the values."""
    found = strip(Named(keys), container, HERE).tensors
    return sorted(found.shapes, key=lambda key: int(found.read(key)))


@pytest.mark.parametrize("keys", [OPENPI, LEROBOT, TRANSFORMERS, BARE])
@pytest.mark.parametrize(
    "prefix",
    [
        *("", "module.", "_orig_mod.", "module._orig_mod.", "_forward_module.", "policy."),
        *("actor.", "student.net.", "model/", "state_dict/model/", "module/_orig_mod."),
        *("base_model.model.", "state_dict/agent."),
    ],
)
def test_a_prefix_of_all_names(prefix: str, keys: list[str]) -> None:
    assert stripped([prefix + key for key in keys]) == keys


def test_a_model_of_a_trainer() -> None:
    # RLinf's bare names, and transformers', have no level `model.` before the output.
    assert stripped([f"model.{key}" for key in BARE]) == BARE
    assert stripped([f"model.{key}" for key in TRANSFORMERS]) == TRANSFORMERS
    # With it, openpi's names are lerobot's.
    assert stripped([f"model._orig_mod.{key}" for key in OPENPI]) == LEROBOT
    assert stripped([f"model.{key}" for key in LEROBOT]) == LEROBOT


@pytest.mark.parametrize("level", ["_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_wrappers_inside_a_name(level: str) -> None:
    keys = [key.replace("layers.0", f"layers.0.{level}") for key in OPENPI]
    assert stripped(keys) == OPENPI
    assert stripped([f"{level}.{key}" for key in keys]) == OPENPI
    assert strip(Named(keys), None, HERE).notes == [f"{level} taken out of 1 names"]


def test_notes_say_what_was_taken_off() -> None:
    assert strip(Named(OPENPI), None, HERE).notes == []
    notes = strip(Named([f"module.{key}" for key in OPENPI]), None, HERE).notes
    assert notes == ["prefix 'module.' taken off the names"]
    notes = strip(Named([f"model/_orig_mod.policy.{key}" for key in OPENPI]), None, HERE).notes
    assert notes[0] == "_orig_mod taken out of 2 names"
    assert notes[1:] == ["the weights are those in 'model'", "prefix 'policy.' taken off the names"]


def test_names_without_the_prefix_stay() -> None:
    keys = [*(f"actor.{key}" for key in OPENPI), "value_head.mlp.0.weight"]
    assert stripped(keys) == [*OPENPI, "value_head.mlp.0.weight"]


def test_names_never_collide() -> None:
    for keys in (["a._orig_mod.b", "a.b"], ["module.action_out_proj.weight", "module.x", "x"]):
        with pytest.raises(InputError, match=r"are the same tensor, \S+, twice"):
            stripped(keys)


SETS: dict[str, tuple[str, str, str, str]] = {
    # two prefixes, and the names by which they are chosen
    "containers": ("model/", "model_ema/", "model", "model_ema"),
    "containers of lerobot": ("model/model.", "ema/model.", "model", "ema"),
    "nested": ("state_dict/model/", "state_dict/ema/", "state_dict/model", "state_dict/ema"),
    "in one container": ("x/model.", "x/ema_model.", "x/model", "x/ema_model"),
    "prefixes": ("actor.", "target.actor.", "actor", "target.actor"),
    "one without": ("", "ema.", ".", "ema"),
}


@pytest.mark.parametrize("case", SETS)
def test_of_two_sets_one_is_chosen(case: str) -> None:
    first, second, name, other = SETS[case]
    keys = [prefix + key for prefix in (first, second) for key in BARE]
    message = rf"2 sets of weights, in '{name}' and '{other}'; choose one with --container"
    with pytest.raises(InputError, match=message):
        stripped(keys)
    assert stripped(keys, name) == stripped(keys, other) == BARE
    found: Any = strip(Named(keys), other, HERE)
    assert int(found.tensors.read(BARE[0])) == len(BARE)
    assert found.notes[0] == f"3 tensors that do not belong to {other!r} left out"
    with pytest.raises(InputError, match=r"no weights in 'x\.y', only in"):
        stripped(keys, "x.y")


def test_other_tensors_beside_the_weights() -> None:
    keys = [*(f"model/{key}" for key in OPENPI), "ema/shadow/0"]
    with pytest.raises(InputError, match="holds ema/shadow/0 beside the weights"):
        stripped(keys)
    assert stripped(keys, "model") == OPENPI


def test_an_incomplete_set_loses_its_container() -> None:
    assert prefixes(["model/a", "model/b"]) == []
    assert stripped(["model/a", "model/b"]) == ["a", "b"]
