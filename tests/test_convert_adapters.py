"""Adapters are merged to the last bit, and no tensor or setting of them is left unread."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from checkpoints import NORM_STATS, TorchGolden
from safetensors.numpy import load_file, save_file

from pi0_jax.convert.commands import torch_to_flax
from pi0_jax.convert.commands.command import status
from pi0_jax.convert.sources.adapter_config import HARMLESS, read_adapter_config
from pi0_jax.convert.sources.torch_weights import ANY, Choice, Weights, open_weights
from pi0_jax.errors import InputError
from pi0_jax.policy.folder import load_policy

Arrays = dict[str, np.ndarray]

CONFIG = {"peft_type": "LORA", "r": 1, "lora_alpha": 2, "target_modules": ["q"]}
OUT = "action_out_proj.weight"
BASE: Arrays = {
    "model.q.weight": np.array([[1, 2], [3, 4]], np.float32),
    "model.e.weight": np.array([[1, 2], [3, 4], [5, 6]], np.float32),
    "model.q.bias": np.array([1, 2], np.float32),
    f"model.{OUT}": np.ones((1, 1), np.float32),
    # By this name lerobot's weights are known.
    "model.paligemma_with_expert.x": np.ones(1, np.float32),
}
A, B = np.array([[1, 10]], np.float32), np.array([[1], [2]], np.float32)
# scale 2: [[2, 20], [4, 40]] is added
MERGED = [[3, 22], [7, 44]]
FACTORS: Arrays = {"model.q.lora_A.weight": A, "model.q.lora_B.weight": B}


def write(folder: Path, adapter: Arrays | None = None, base: Arrays | None = None, **config: Any):
    """A folder with an adapter, or base weights, or both."""
    folder.mkdir(exist_ok=True)
    if adapter:
        named = {f"base_model.model.{key}": value for key, value in adapter.items()}
        save_file(named, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps(CONFIG | config))
    if base:
        save_file(base, folder / "model.safetensors")
    return folder


def read(found: Weights, key: str = "model.q.weight") -> list:
    return found.tensors.read(key).tolist()


def refusal(path: Path, choice: Choice = ANY) -> str:
    with pytest.raises(InputError) as raised:
        open_weights(path, choice)
    return str(raised.value)


def test_base_beside_the_adapter(tmp_path: Path) -> None:
    found = open_weights(write(tmp_path / "c", FACTORS, BASE))
    assert read(found) == MERGED
    assert read(found, "model.e.weight") == BASE["model.e.weight"].tolist()
    assert found.notes == ["1 adapters merged"]
    assert found.merged == [f"base_model.model.{key}" for key in FACTORS]
    assert {file.name for file in found.tensors.files} == {
        "model.safetensors",
        "adapter_model.safetensors",
    }


def test_base_elsewhere(tmp_path: Path) -> None:
    adapter = write(tmp_path / "a", FACTORS, base_model_name_or_path="lab/base")
    message = refusal(adapter)
    assert "give them with --base SRC" in message and "'lab/base'" in message
    base = write(tmp_path / "b", base=BASE)
    found = open_weights(adapter, Choice(base=base))
    assert read(found) == MERGED
    assert (found.folders, found.notes[0]) == ((adapter, base), f"base {base}")
    # The file of an adapter is the adapter; openpi's names have no `model.`.
    openpi = {key.removeprefix("model."): value for key, value in BASE.items()}
    base = write(tmp_path / "openpi", base=openpi)
    file = adapter / "adapter_model.safetensors"
    assert read(open_weights(file, Choice(base=base)), "q.weight") == MERGED
    assert "is no adapter" in refusal(base, Choice(base=base))


def inside(base: Arrays, name: str = "default") -> Arrays:
    """A model with PEFT's layers in it."""
    found = {"model.q.base_layer.weight": base["model.q.weight"]} | base
    del found["model.q.weight"]
    for factor in "AB":
        named = f"model.q.lora_{factor}.{name}.weight"
        found[named] = FACTORS[f"model.q.lora_{factor}.weight"]
    return found


def test_layers_inside_a_model(tmp_path: Path) -> None:
    layers = inside(BASE) | {
        "model.e.original_module.weight": BASE["model.e.weight"],
        "model.e.modules_to_save.default.weight": -BASE["model.e.weight"],
    }
    del layers["model.e.weight"]
    folder = write(tmp_path / "c", base=layers)
    assert "adapter_config.json: expected this file" in refusal(folder)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG))
    found = open_weights(folder)
    assert read(found) == MERGED
    assert read(found, "model.e.weight") == (-BASE["model.e.weight"]).tolist()
    assert set(found.tensors.shapes) == set(BASE)


def test_the_scale(tmp_path: Path) -> None:
    def added(**config: Any) -> float:
        rank = config.get("r", 4)
        path = tmp_path / "adapter_config.json"
        path.write_text(json.dumps(CONFIG | {"r": 4, "lora_alpha": 8} | config))
        return read_adapter_config(path).scale("m.layers.0.q_proj", rank)

    assert added() == 2
    assert added(use_rslora=True) == 4
    assert added(alpha_pattern={"q_proj": 1}) == 0.25
    assert added(alpha_pattern={"proj": 1, "k_proj": 3}) == 2
    assert added(alpha_pattern={r".*\.0\.q_proj": 6, "q_proj": 1}) == 1.5
    with pytest.raises(InputError, match=r"r of m\.layers\.0\.q_proj is 2, its tensors have 4"):
        added(rank_pattern={"q_proj": 2})


def test_an_embedding_and_a_bias(tmp_path: Path) -> None:
    adapter = {
        "model.e.lora_embedding_A": np.array([[1, 2, 3]], np.float32),
        "model.e.lora_embedding_B": np.array([[1], [10]], np.float32),
        "model.q.base_layer.bias": np.array([7, 8], np.float32),
    }
    found = open_weights(write(tmp_path / "c", adapter, BASE, bias="all"))
    assert read(found, "model.e.weight") == [[3, 22], [7, 44], [11, 66]]
    assert read(found, "model.q.bias") == [7, 8]
    assert found.notes == ["1 adapters merged, 1 tensors replaced by the adapter's"]


def test_output_words_are_not_read(tmp_path: Path) -> None:
    adapter = {key.replace("model.q", "model.lm_head"): value for key, value in FACTORS.items()}
    found = open_weights(write(tmp_path / "c", FACTORS | adapter, BASE))
    assert list(found.unread) == [f"base_model.model.{key}" for key in adapter]
    assert found.merged == [f"base_model.model.{key}" for key in FACTORS]


@pytest.mark.parametrize(
    "config",
    [
        {"use_dora": True},
        {"fan_in_fan_out": True},
        {"lora_bias": True},
        {"init_lora_weights": "pissa_niter_4"},
        {"layer_replication": [[0, 1]]},
        {"target_parameters": ["w"]},
        {"a_setting_of_2027": 3},
    ],
)
def test_other_kinds_of_adapters_are_refused_by_name(config: dict, tmp_path: Path) -> None:
    folder = write(tmp_path / "c", FACTORS, BASE, **config)
    assert f"{next(iter(config))} " in refusal(folder)
    assert "merge_and_unload" in refusal(folder)


def test_a_setting_that_is_off_or_harmless_is_none(tmp_path: Path) -> None:
    off = {"a_setting_of_2027": None, "use_dora": False, "layer_replication": []}
    harmless = dict.fromkeys(HARMLESS, "x")
    assert read(open_weights(write(tmp_path / "c", FACTORS, BASE, **off, **harmless))) == MERGED
    assert "peft_type 'VERA'" in refusal(write(tmp_path / "c", FACTORS, BASE, peft_type="VERA"))
    (tmp_path / "c/adapter_config.json").write_text('{"peft_type": "LORA"}')
    assert "r is missing; lora_alpha is missing" in refusal(tmp_path / "c")


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (FACTORS | {"model.k.lora_A.weight": A}, "model.k has one of two factors"),
        (
            {"model.k.lora_A.weight": A, "model.k.lora_B.weight": B},
            "2 tensors of the adapter belong",
        ),
        (FACTORS | {"model.k.weight": A}, "1 tensors of the adapter belong to no weight"),
        (FACTORS | {"model.q.lora_magnitude_vector": A}, "is no factor of plain LoRA"),
        (FACTORS | {"model.q.lora_B.bias": A}, "is no factor of plain LoRA"),
        (FACTORS | {"model.q.lora_A.weight": A.T}, "do not fit model.q.weight [2, 2]"),
        ({"model.k.weight": A}, "this adapter has no factors"),
        (
            FACTORS | {"model.q.lora_A.weight": A.astype(np.int64)},
            "expected dtype float32 or bfloat16 or float16, got int64",
        ),
    ],
)
def test_every_tensor_of_an_adapter_is_used(adapter: Arrays, message: str, tmp_path: Path) -> None:
    assert message in refusal(write(tmp_path / "c", adapter, BASE))


def test_several_adapters(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", base=inside(BASE) | inside(BASE, "other"))
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG))
    assert "several adapters, default and other" in refusal(folder)


def test_a_config_without_its_factors(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", FACTORS, BASE)
    (folder / "adapter_model.safetensors").unlink()
    assert "adapter_config.json without its adapter_model.safetensors" in refusal(folder)


def test_a_converted_adapter_is_rounded_once(torch_golden: TorchGolden, tmp_path: Path) -> None:
    golden = torch_golden("tiny_pi0_torch_lerobot_new")
    weights = load_file(golden / "model.safetensors")
    half = {key: value.astype(ml_dtypes.bfloat16) for key, value in weights.items()}
    name = "model.action_in_proj"
    rng = np.random.default_rng(0)
    a = rng.normal(size=(2, 32)).astype(np.float32)
    b = rng.normal(size=(32, 2)).astype(np.float32)
    factors = {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
    adapter = write(tmp_path / "a", factors, r=2, lora_alpha=1)
    base = write(tmp_path / "b", base=half)
    arguments = [str(adapter), str(tmp_path / "p"), "--norm-stats", str(NORM_STATS)]
    assert status(torch_to_flax.main, [*arguments, "--base", str(base)]) == 0
    found = np.asarray(load_policy(tmp_path / "p").params["action_in_proj"]["kernel"])
    wanted = half[f"{name}.weight"].astype(np.float32) + np.float32(0.5) * (b @ a)
    assert found.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found, wanted.astype(ml_dtypes.bfloat16).T)
    manifest = json.loads((tmp_path / "p/manifest.json").read_text())
    assert f"base_model.model.{name}.lora_A.weight" in manifest["keys_used"]
    assert "1 adapters merged" in manifest["notes"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"modules_to_save": ["model.k"]}, "says that the adapter replaces model.k"),
        ({"rank_pattern": {"*q": 1}}, "'*q', which is no pattern: nothing to repeat"),
        ({"rank_pattern": ["q"]}, "rank_pattern is ['q'], expected an object of whole numbers"),
        ({"rank_pattern": {"q": 1.5}}, "expected an object of whole numbers"),
        (
            {"alpha_pattern": {"q": "x"}},
            "alpha_pattern is {'q': 'x'}, expected an object of finite",
        ),
        ({"alpha_pattern": {"q": None}}, "expected an object of finite numbers"),
        ({"use_rslora": "false"}, "use_rslora is 'false', expected true or false"),
        ({"r": 1.5}, "r is 1.5, expected a whole number above 0"),
        ({"r": "1", "lora_alpha": True}, "lora_alpha is True, expected a finite number"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan, expected a finite number"),
        ({"target_modules": "*q"}, "target_modules has '*q', which is no pattern"),
        ({"modules_to_save": "q"}, "modules_to_save is 'q', expected a list of texts"),
        ({"layers_to_transform": "all"}, "layers_to_transform is 'all', expected a whole"),
        ({"bias": "some"}, "bias is 'some', expected none, all, lora_only"),
        ({"bias": "all"}, "bias is 'all', and the adapter does not hold model.q.bias"),
        ({"bias": "lora_only"}, "bias is 'lora_only', and the adapter does not hold model.q.bias"),
    ],
)
def test_a_config_and_its_adapter_agree(config: dict, message: str, tmp_path: Path) -> None:
    assert message in refusal(write(tmp_path / "c", FACTORS, BASE, **config))


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_biases_that_the_adapter_holds_replace_those_of_the_base(bias: str, tmp_path: Path) -> None:
    new = np.array([5, 6], np.float32)
    found = open_weights(write(tmp_path / "c", FACTORS | {"model.q.bias": new}, BASE, bias=bias))
    assert read(found, "model.q.bias") == [5, 6]


def test_a_rank_of_zero_is_no_adapter(tmp_path: Path) -> None:
    none = {"model.q.lora_A.weight": A[:0], "model.q.lora_B.weight": B[:, :0]}
    assert "r is 0, expected a whole number above 0" in refusal(
        write(tmp_path / "c", none, BASE, r=0)
    )


def test_two_bases_are_one_too_many(tmp_path: Path) -> None:
    write(tmp_path / "c", FACTORS, BASE)
    write(tmp_path / "base", base=BASE)
    message = refusal(tmp_path / "c", Choice(base=tmp_path / "base"))
    assert "weights lie beside the adapter too" in message


def test_a_layer_without_factors_is_an_error_unless_the_config_leaves_it_out(
    tmp_path: Path,
) -> None:
    """A part of an adapter that was lost in a copy would be a policy of two halves."""
    layers = {f"model.layers.{i}.q.weight": BASE["model.q.weight"] for i in range(2)}
    half = {f"model.layers.0.q.lora_{name}.weight": value for name, value in (("A", A), ("B", B))}
    write(tmp_path, half, BASE | layers)
    assert "no factors for model.layers.1.q.weight" in refusal(tmp_path)
    for config in ({"layers_to_transform": [0]}, {"target_modules": r".*layers\.0\.q"}):
        write(tmp_path, half, **config)
        assert read(open_weights(tmp_path), "model.layers.0.q.weight") == MERGED
