"""pi0.5 through the converters: openpi's layouts in and out, and what no file says."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from checkpoints import GOLDENS, TINY, make_policy, make_torch
from safetensors.torch import load_file, save_file
from skips import slow

from pi0_jax.convert.commands import flax_to_torch, jax_to_flax, torch_to_flax, verify
from pi0_jax.convert.commands.command import status
from pi0_jax.convert.sources.source import leaf_shapes
from pi0_jax.io.orbax_tree import load_tree, nest, save_tree
from pi0_jax.model.config import Pi0Config
from pi0_jax.policy.folder import PolicyFolder, load_policy, save_policy

ORBAX, TORCH = ("tiny_pi05", "tiny_pi05_released"), "tiny_pi05_torch_openpi"
TINY05 = dataclasses.replace(TINY, pi05=True)
OTHER05 = dataclasses.replace(TINY05, depth=1, num_kv_heads=4, action_dim=33)


def run(main: Any, *arguments: object) -> None:
    assert status(main, [str(argument) for argument in arguments]) == 0


def fails(capsys: pytest.CaptureFixture[str], main: Any, *arguments: object) -> str:
    assert status(main, [str(argument) for argument in arguments]) == 2
    return capsys.readouterr().err


def converted(name: str, destination: Path, *flags: object) -> PolicyFolder:
    main = torch_to_flax.main if "torch" in name else jax_to_flax.main
    run(main, GOLDENS / name, destination, *flags)
    return load_policy(destination)


@pytest.mark.parametrize("name", [*ORBAX, TORCH])
def test_goldens_convert_bit_by_bit(tmp_path: Path, name: str) -> None:
    params = converted(name, tmp_path / "p").params
    assert not params.pop("cond_embed").any()
    wanted = load_tree(GOLDENS / "tiny_pi05_released/params")["params"]
    jax.tree.map(np.testing.assert_array_equal, params, wanted)


@pytest.mark.parametrize("name", [ORBAX[0], TORCH])
def test_a_converted_policy_is_that_of_openpi(tmp_path: Path, name: str) -> None:
    converted(name, tmp_path / "p", "--action-horizon", 10)
    run(verify.main, tmp_path / "p", "--io", GOLDENS / "tiny_pi05_io.npz")


def test_what_the_files_do_not_say_is_said_to_be_assumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = converted(ORBAX[0], tmp_path / "p").spec
    assert (spec.quantile, spec.state_in_prompt, spec.asset_id) == (
        True, True, "physical-intelligence/libero",
    )  # fmt: skip
    assert (spec.model.action_horizon, spec.model.prompt_length) == (50, 200)
    summary = capsys.readouterr().out
    assert "horizon 50 is assumed" in summary and "assumed to hold the state" in summary
    assert "quantiles is assumed" in summary and "5 executed actions of each chunk are" in summary
    flags = ("--action-horizon", 10, "--no-state-in-prompt", "--delta-mask", "none")
    flags += ("--no-quantile", "--execute-steps", 10)
    spec = converted(ORBAX[0], tmp_path / "q", *flags).spec
    assert (spec.model.action_horizon, spec.state_in_prompt) == (10, False)
    assert (spec.quantile, spec.execute_steps) == (False, 10)
    summary = capsys.readouterr().out
    assert "assumed" not in summary and "51 official" in summary and "pi0.5" in summary
    # openpi's PyTorch folder has a horizon in its config.json.
    assert converted(TORCH, tmp_path / "r").spec.model.action_horizon == 10


def test_a_pi0_has_no_state_in_its_prompt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (jax_to_flax.main, GOLDENS / "tiny_pi0", tmp_path / "p")
    assert "state_proj; leave it out" in fails(capsys, *command, "--state-in-prompt")
    run(*command)
    spec = load_policy(tmp_path / "p").spec
    assert (spec.quantile, spec.state_in_prompt) == (False, False)


def test_statistics_without_quantiles_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = {"mean": [0.0] * 7, "std": [1.0] * 7}
    stats = tmp_path / "norm_stats.json"
    stats.write_text(json.dumps({"norm_stats": {"state": part, "actions": part}}))
    error = fails(
        capsys, jax_to_flax.main, GOLDENS / ORBAX[0], tmp_path / "p", "--norm-stats", stats
    )
    assert "no q01 and q99" in error and not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("config", "state_in_prompt"),
    [
        (TINY05, True),
        (OTHER05, False),
        pytest.param(TINY05, False, marks=slow),
        pytest.param(OTHER05, True, marks=slow),
    ],
)
def test_there_and_back_bit_by_bit(
    tmp_path: Path, config: Pi0Config, state_in_prompt: bool
) -> None:
    policy = make_policy(tmp_path / "p", config, quantile=True, state_in_prompt=state_in_prompt)
    run(flax_to_torch.main, tmp_path / "p", tmp_path / "x", "--layout", "openpi")
    run(torch_to_flax.main, tmp_path / "x", tmp_path / "y")
    back = load_policy(tmp_path / "y")
    jax.tree.map(np.testing.assert_array_equal, back.params, policy.params)
    assert back.spec.model == config
    assert (back.spec.quantile, back.spec.state_in_prompt) == (True, state_in_prompt)


def test_exported_names_and_shapes_are_openpis(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    converted(TORCH, tmp_path / "p", "--no-state-in-prompt")
    run(flax_to_torch.main, tmp_path / "p", tmp_path / "x", "--layout", "openpi")
    assert "action_horizon=10, discrete_state_input=False" in capsys.readouterr().out
    ours, theirs = (
        {k: v.shape for k, v in load_file(folder / "model.safetensors").items()}
        for folder in (tmp_path / "x", GOLDENS / TORCH)
    )
    assert ours == theirs


def test_the_condition_folds_into_the_bias_of_the_actions(tmp_path: Path) -> None:
    policy = make_policy(tmp_path / "p", TINY05, quantile=True)
    params = policy.params | {"cond_embed": np.stack([np.zeros(8), np.arange(8)]).astype("f")}
    save_policy(tmp_path / "q", dataclasses.replace(policy, params=params), {})
    run(flax_to_torch.main, tmp_path / "q", tmp_path / "x", "--layout", "openpi")
    bias = load_file(tmp_path / "x/model.safetensors")["action_in_proj.bias"]
    np.testing.assert_array_equal(
        bias, policy.params["action_in_proj"]["bias"] + np.arange(8, dtype="f")
    )


@pytest.mark.parametrize(
    ("layout", "state_in_prompt", "message"),
    [
        ("transformers", True, "the library has no pi0.5"),
        ("lerobot", False, "this pi0.5 reads no state"),
    ],
)
def test_what_a_library_does_not_have_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    layout: str,
    state_in_prompt: bool,
    message: str,
) -> None:
    make_policy(tmp_path / "p", TINY05, quantile=True, state_in_prompt=state_in_prompt)
    out = (flax_to_torch.main, tmp_path / "p", tmp_path / "x", "--layout", layout)
    assert message in fails(capsys, *out)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("padded", [False, True])
def test_lerobots_layout_there_and_back(tmp_path: Path, padded: bool) -> None:
    policy = make_policy(
        tmp_path / "p", TINY05, quantile=True, state_in_prompt=True, padded_state_text=padded
    )
    run(flax_to_torch.main, tmp_path / "p", tmp_path / "x", "--layout", "lerobot")
    run(torch_to_flax.main, tmp_path / "x", tmp_path / "q")
    back = load_policy(tmp_path / "q")
    jax.tree.map(np.testing.assert_array_equal, back.params, policy.params)
    spec = back.spec
    assert (spec.model.pi05, spec.quantile, spec.state_in_prompt) == (True, True, True)
    # Without the keys of lerobot 0.5.1 the files are those of 0.4, which padded the text.
    assert spec.padded_state_text is padded
    assert spec.model.prompt_length == TINY05.prompt_length


def test_lerobots_policy_can_be_read_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_policy(tmp_path / "p", TINY05, quantile=True, state_in_prompt=True, padded_state_text=True)
    run(flax_to_torch.main, tmp_path / "p", tmp_path / "x", "--layout", "lerobot")
    run(torch_to_flax.main, tmp_path / "x", tmp_path / "q")
    assert "give --no-padded-state-text" in capsys.readouterr().out
    run(torch_to_flax.main, tmp_path / "x", tmp_path / "r", "--no-padded-state-text")
    assert not load_policy(tmp_path / "r").spec.padded_state_text
    assert "padded-state-text" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda flat: flat.pop("time_mlp_in/bias"), "missing time_mlp_in/bias"),
        (lambda flat: flat.update({"state_proj/bias": np.ones(8, "f")}), "unexpected state_proj"),
        (
            lambda flat: flat.update({"PaliGemma/llm/final_norm_1/Dense_0/bias": np.ones(23, "f")}),
            "Dense_0/bias: expected shape [24], got shape [23]",
        ),
    ],
)
def test_spoilt_trees(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, message: str
) -> None:
    flat = {path: np.ones(shape, "f") for path, shape in leaf_shapes(TINY05).items()}
    change(flat)
    save_tree(tmp_path / "params", {"params": nest(flat)})
    error = fails(capsys, jax_to_flax.main, tmp_path, tmp_path / "p")
    assert "1 problem" in error and message in error


def test_a_pytorch_file_is_accounted_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_torch(tmp_path, "openpi", TINY05)
    tensors = load_file(folder / "model.safetensors")
    tensors["state_proj.bias"] = tensors.pop("time_mlp_out.bias")
    save_file(tensors, folder / "model.safetensors")
    heads = ("--num-heads", "4", "--vision-heads", "3")
    error = fails(capsys, torch_to_flax.main, folder, tmp_path / "y", *heads)
    assert "missing time_mlp_out.bias" in error and "unexpected state_proj.bias" in error
