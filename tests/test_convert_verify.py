"""verify: JSON, exit codes, and what it must catch."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from checkpoints import GOLDENS, IO, TINY, TorchGolden, make_policy, make_torch
from safetensors.torch import load_file, save_file

from pi0_jax.convert.commands import end_to_end, jax_to_flax, verify
from pi0_jax.convert.commands.command import status
from pi0_jax.convert.compare import compare_networks
from pi0_jax.convert.compare import reference_stages as stages
from pi0_jax.convert.sources.orbax_source import OrbaxSource
from pi0_jax.convert.sources.source import load_params


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    code = status(verify.main, [str(argument) for argument in arguments])
    out = capsys.readouterr().out
    return code, json.loads(out) if out else {}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_torch(folder, "openpi")
    return folder


@pytest.fixture(scope="module")
def io(made: Path) -> Path:
    """A golden file of the tiny policy, made by ourselves, horizon 5 instead of 7."""
    obs, flow_in = compare_networks.random_inputs(TINY, seed=1)
    flow_in = {k: v[:, :5] if v.ndim == 3 else v for k, v in flow_in.items()}
    params = load_params(OrbaxSource(made / "policy"), "float32")
    config = dataclasses.replace(TINY, action_horizon=5)
    # As `verify` computes, so that it finds these programs compiled.
    with jax.default_matmul_precision("highest"):
        found = jax.device_get(stages.forward(config, params, obs, flow_in))
        found["sample_actions_5"] = stages.sample(config, params, obs, flow_in["noise"], 5)
    arrays = {
        "state": obs.state,
        "tokenized_prompt": obs.prompt,
        "tokenized_prompt_mask": obs.prompt_mask,
        **flow_in,
        **found,
    }
    for i, name in enumerate(("base_0_rgb", "left_wrist_0_rgb")):
        arrays |= {f"image/{name}": obs.images[:, i], f"image_mask/{name}": obs.image_mask[:, i]}
    np.savez(made / "io.npz", **arrays)
    return made / "io.npz"


def test_a_policy_and_a_foreign_file_pass(
    made: Path, io: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (made / "policy", made / "openpi", made / "openpi/model.safetensors"):
        code, report = run(capsys, path, "--io", io)
        assert code == 0 and report["ok"]
        assert report["stages"]["v_t"]["max_error"] < 2e-5
        assert set(report["stages"]) >= {"prefix_tokens", "suffix_tokens", "loss"}


def test_one_wrong_weight_is_caught_at_its_stage(
    made: Path, io: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = load_file(made / "openpi/model.safetensors")
    tensors["state_proj.bias"] += 0.1
    heads = {"num_heads": "4", "num_kv_heads": "2", "vision_heads": "3"}
    save_file(tensors, tmp_path / "model.safetensors", heads)
    code, report = run(capsys, tmp_path, "--io", io)
    assert code == 1 and not report["ok"]
    assert report["stages"]["prefix_tokens"]["ok"]
    assert not report["stages"]["suffix_tokens"]["ok"]
    code, report = run(capsys, tmp_path, "--against", made / "policy", "--network-only")
    assert code == 1 and not report["stages"]["v_t"]["ok"]
    assert "end_to_end" not in report
    # Whether it acts alike, nobody can say without its statistics.
    assert status(verify.main, [str(tmp_path), "--against", str(made / "policy")]) == 2
    assert "give --norm-stats" in capsys.readouterr().err


def test_two_layouts_of_one_policy_agree(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = run(capsys, made / "policy", "--against", made / "openpi")
    assert code == 0
    assert report["layouts"] == ["pi0_jax policy", "openpi"]
    assert all(stage["max_error"] == 0 for stage in report["stages"].values())
    assert all(row["max_error"] == 0 for row in report["end_to_end"].values())
    # openpi's files do not name the robot, and its cameras are always called the same.
    assert {d["what"] for d in report["differences"]} >= {"robot.name", "robot.cameras"}
    assert not any(d["what"].startswith("statistics") for d in report["differences"])
    assert end_to_end.BYTES_NOTE in report["notes"]


def test_other_sizes_are_wrong_input(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_policy(tmp_path / "p", dataclasses.replace(TINY, depth=2))
    assert status(verify.main, [str(made / "policy"), "--against", str(tmp_path / "p")]) == 2
    assert "different architectures" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "lacks state, tokenized_prompt"),
        (None, "expected an npz"),
    ],
)
def test_a_spoilt_golden_file(
    made: Path,
    tmp_path: Path,
    arrays: dict[str, Any] | None,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "io.npz"
    if arrays is None:
        path.write_bytes(b"not a zip")
    else:
        np.savez(path, **arrays)
    assert status(verify.main, [str(made / "policy"), "--io", str(path)]) == 2
    assert message in capsys.readouterr().err


def test_a_nan_fails(made: Path, io: Path) -> None:
    with np.load(io) as file:
        golden = dict(file)
    golden["v_t"] = np.full_like(golden["v_t"], np.nan)
    report = compare_networks.against_golden(OrbaxSource(made / "policy"), golden)
    assert not report["ok"] and report["stages"]["v_t"]["max_error"] is None


def test_the_golden_passes_on_every_stage(
    torch_golden: TorchGolden, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = run(capsys, torch_golden("tiny_pi0_torch_lerobot_old"), "--io", IO)
    assert code == 0
    # Only a pi0.5 has the clock.
    wanted = {*compare_networks.TOLERANCES, "prefix_mask", "positions"} - {"adarms_cond"}
    assert set(report["stages"]) == wanted


def test_rounding_to_bfloat16_is_allowed_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(GOLDENS / "tiny_pi0"), str(tmp_path / "p"), "--dtype", "bfloat16"]
    assert status(jax_to_flax.main, arguments) == 0
    capsys.readouterr()
    code, report = run(capsys, tmp_path / "p", "--io", IO)
    assert code == 0 and report["weights"] == ["bfloat16"]
    assert 1e-3 < report["stages"]["v_t"]["max_error"] < 0.1
