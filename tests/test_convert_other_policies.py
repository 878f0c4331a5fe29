"""What acts otherwise than pi0 is refused in one line; what no action needs is known."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import GOLDENS, NORM_STATS
from safetensors.torch import load_file, save_file

from pi0_jax.convert.commands import jax_to_flax, torch_to_flax
from pi0_jax.convert.commands.command import status
from pi0_jax.convert.sources.torch_source import TorchSource
from pi0_jax.errors import InputError
from pi0_jax.io.orbax_tree import load_tree, save_tree

OPENPI = GOLDENS / "tiny_pi0_torch_openpi"


def weights() -> dict[str, torch.Tensor]:
    return load_file(OPENPI / "model.safetensors")


def source(folder: Path, tensors: dict[str, torch.Tensor]) -> TorchSource:
    save_file(tensors, folder / "model.safetensors")
    return TorchSource(folder)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_heads_of_rl_are_known_as_unread(prefix: str, tmp_path: Path) -> None:
    heads = {
        "value_head.mlp.0.weight": torch.ones(16, 32),
        "value_head.mlp.6.bias": torch.ones(1),
        "noise_head.logvar_min": torch.ones(()),
    }
    both = {prefix + key: value for key, value in (weights() | heads).items()}
    info = source(tmp_path, both).info
    assert {*heads} < info.unused.keys()
    assert "no action depends on it" in info.unused["value_head.mlp.0.weight"]
    assert not {*heads} & {*info.used}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("dsrl_action_noise_net.0.weight", "DSRL"),
        ("actor_image_encoder.0.weight", "DSRL"),
        ("rlt_module.0.weight", "RLT"),
    ],
)
def test_another_network_in_the_loop_is_refused(key: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{key} is a part of RLinf's {name}.+is not converted"):
        source(tmp_path, weights() | {key: torch.ones(2)})


def test_pi0_fast_in_pytorch(tmp_path: Path) -> None:
    words = {
        key: value
        for key, value in weights().items()
        if ".paligemma." in key and "expert.gemma_expert" not in key
    }
    for prefix in ("", "model."):
        with pytest.raises(InputError, match="a pi0-FAST"):
            source(tmp_path, {prefix + key: value for key, value in words.items()})


def test_pi0_fast_by_its_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"type": "pi0_fast", "input_features": {}}))
    with pytest.raises(InputError, match=r"config\.json is that of pi0_fast: a pi0-FAST"):
        source(tmp_path, weights())


def test_pi0_fast_in_orbax(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = load_tree(GOLDENS / "tiny_pi0_released/params")["params"]["PaliGemma"]
    llm = {
        "embedder": tree["llm"]["embedder"],
        "layers": {"mlp": {"linear": tree["llm"]["layers"]["mlp"]["linear"]}},
    }
    save_tree(tmp_path / "c/params", {"params": {"PaliGemma": {"img": tree["img"], "llm": llm}}})
    arguments = [str(tmp_path / "c"), str(tmp_path / "p"), "--norm-stats", str(NORM_STATS)]
    assert status(jax_to_flax.main, arguments) == 2
    error = capsys.readouterr().err
    assert "a pi0-FAST" in error and error.count("\n") == 1


def test_rlinfs_weights_after_ppo(tmp_path: Path) -> None:
    state = weights() | {"value_head.mlp.0.weight": torch.ones(4, 32)}
    folder = tmp_path / "global_step_90/actor/model_state_dict"
    folder.mkdir(parents=True)
    torch.save(state, folder / "full_weights.pt")
    arguments = ["--norm-stats", str(NORM_STATS)]
    destination = tmp_path / "p"
    assert status(torch_to_flax.main, [str(tmp_path), str(destination), *arguments]) == 0
    kernel = load_tree(destination / "params")["params"]["state_proj"]["kernel"]
    np.testing.assert_array_equal(kernel, state["state_proj.weight"].numpy().T)
    manifest = json.loads((destination / "manifest.json").read_text())
    assert "value_head.mlp.0.weight" in manifest["keys_unused"]
