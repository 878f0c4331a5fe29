"""PyTorch layouts in: every golden bit by bit, every way the tensors may be stored."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from checkpoints import GOLDENS, NORM_STATS, TINY, TorchGolden, make_torch, random_stats
from safetensors.torch import load_file, save_file

from pi0_jax.convert.commands import torch_to_flax
from pi0_jax.convert.commands.command import status
from pi0_jax.convert.sources.orbax_source import OrbaxSource
from pi0_jax.convert.sources.source import load_params
from pi0_jax.convert.sources.torch_source import TorchSource
from pi0_jax.data.normalize import load_norm_stats, save_norm_stats
from pi0_jax.errors import InputError
from pi0_jax.policy.folder import load_policy

FOLDERS = {
    "tiny_pi0_torch_openpi": "openpi",
    "tiny_pi0_torch_lerobot_new": "lerobot",
    "tiny_pi0_torch_lerobot_new_v06": "lerobot",
    "tiny_pi0_torch_lerobot_old": "lerobot",
    "tiny_pi0_torch_lerobot_old_tf452": "lerobot",
    "tiny_pi0_torch_transformers": "transformers",
    "tiny_pi0_torch_transformers_native": "transformers",
}


def equal(a: Any, b: Any) -> bool:
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))


def convert(*arguments: object) -> int:
    return status(torch_to_flax.main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def official() -> Any:
    return load_params(OrbaxSource(GOLDENS / "tiny_pi0_released"), "float32")


@pytest.mark.parametrize(("folder", "layout"), FOLDERS.items())
def test_every_golden_layout_converts_bit_by_bit(
    official: Any, torch_golden: TorchGolden, tmp_path: Path, folder: str, layout: str
) -> None:
    extra = ["--norm-stats", NORM_STATS] if layout == "transformers" else []
    assert convert(torch_golden(folder), tmp_path / "p", "--layout", layout, *extra) == 0
    policy = load_policy(tmp_path / "p")
    assert equal(policy.params, official)
    wanted = load_norm_stats(NORM_STATS)
    np.testing.assert_allclose(policy.stats.actions.mean, wanted.actions.mean, rtol=1e-6)
    np.testing.assert_allclose(policy.stats.state.std, wanted.state.std, rtol=1e-6)
    assert (len(policy.spec.robot.actions), policy.spec.model.action_horizon) == (7, 50)


def test_statistics_of_transformers_processor(
    torch_golden: TorchGolden, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They lie in processor_config.json; with those of another place they must agree."""
    golden = torch_golden("tiny_pi0_torch_transformers_native")
    source = Path(shutil.copytree(golden, tmp_path / "source", copy_function=shutil.copy))
    values = {"state_mean": [5.0] * 8, "state_std": [2.0] * 8, "max_state_dim": 32}
    values |= {"actions_mean": [1.0] * 7, "actions_std": [3.0] * 7}
    (source / "processor_config.json").write_text(json.dumps(values))
    assert convert(source, tmp_path / "p", "--robot", "libero_panda") == 0
    stats = load_policy(tmp_path / "p").stats
    assert set(stats.state.mean) == {5.0} and set(stats.actions.std) == {3.0}
    save_norm_stats(source / "assets/default/norm_stats.json", random_stats(8, 7))
    capsys.readouterr()
    assert convert(source, tmp_path / "q", "--robot", "libero_panda") == 2
    said = capsys.readouterr().err
    assert "different statistics in" in said and "processor_config.json" in said


def test_the_manifest_names_every_key_and_file(torch_golden: TorchGolden, tmp_path: Path) -> None:
    source = torch_golden("tiny_pi0_torch_lerobot_new_v06")
    assert convert(source, tmp_path / "p") == 0
    manifest = json.loads((tmp_path / "p/manifest.json").read_text())
    keys = {*manifest["keys_used"], *manifest["keys_unused"]}
    assert keys == set(load_file(source / "model.safetensors"))
    stale = "model.paligemma_with_expert.paligemma.lm_head.weight"
    assert manifest["keys_unused"][stale].startswith("stale")
    assert len(manifest["files_sha256"]["model.safetensors"]) == 64


@pytest.fixture(scope="module")
def openpi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_torch(tmp_path_factory.mktemp("openpi"), "openpi")


@pytest.fixture(scope="module")
def weights(openpi: Path) -> dict[str, torch.Tensor]:
    return load_file(openpi / "model.safetensors")


HEADS = ("--num-heads", "4", "--vision-heads", "3")


def write(folder: Path, openpi: Path) -> Path:
    """A folder with the statistics but not yet the weights of `openpi`."""
    assets = folder / "assets/robot"
    assets.mkdir(parents=True)
    (assets / "norm_stats.json").write_bytes((openpi / "assets/robot/norm_stats.json").read_bytes())
    return folder


def test_shards_with_an_index(tmp_path: Path, openpi: Path, weights: dict[str, Any]) -> None:
    folder, names = write(tmp_path / "s", openpi), sorted(weights)
    index = {}
    for number, part in enumerate((names[::2], names[1::2])):
        save_file({k: weights[k] for k in part}, folder / f"{number}.safetensors")
        index |= dict.fromkeys(part, f"{number}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert convert(folder, tmp_path / "p", *HEADS) == 0
    assert load_policy(tmp_path / "p").spec.model.head_dim == TINY.head_dim
    (folder / "1.safetensors").unlink()
    with pytest.raises(InputError, match=r"shards are missing: 1\.safetensors"):
        TorchSource(folder)


@pytest.mark.parametrize("wrap", [None, "state_dict"])
def test_plain_pickles(
    tmp_path: Path, openpi: Path, weights: dict[str, Any], wrap: str | None
) -> None:
    folder = write(tmp_path / "s", openpi)
    torch.save({wrap: weights} if wrap else weights, folder / "pytorch_model.bin")
    assert convert(folder, tmp_path / "p", *HEADS) == 0
    assert convert(openpi, tmp_path / "q") == 0
    assert equal(load_policy(tmp_path / "p").params, load_policy(tmp_path / "q").params)


def test_bfloat16_stays_bfloat16_and_a_mixture_becomes_float32(
    tmp_path: Path, openpi: Path, weights: dict[str, Any]
) -> None:
    halves = {k: v.bfloat16() for k, v in weights.items()}
    for name, tensors, dtype in (
        ("half", halves, "bfloat16"),
        ("mixed", halves | {"state_proj.bias": weights["state_proj.bias"]}, "float32"),
    ):
        folder = write(tmp_path / name, openpi)
        save_file(tensors, folder / "model.safetensors")
        assert convert(folder, tmp_path / f"{name}_p", *HEADS) == 0
        policy = load_policy(tmp_path / f"{name}_p")
        assert {leaf.dtype.name for leaf in jax.tree.leaves(policy.params)} == {dtype}
        assert policy.spec.model.compute_dtype == dtype
        kernel = np.asarray(policy.params["state_proj"]["kernel"], np.float32)
        np.testing.assert_array_equal(kernel, halves["state_proj.weight"].float().numpy().T)


def test_a_pickled_bfloat16_is_read_bit_by_bit(
    tmp_path: Path, openpi: Path, weights: dict[str, Any]
) -> None:
    folder = write(tmp_path / "s", openpi)
    torch.save({k: v.bfloat16() for k, v in weights.items()}, folder / "model.pt")
    assert convert(folder, tmp_path / "p", *HEADS) == 0
    kernel = load_policy(tmp_path / "p").params["state_proj"]["kernel"]
    wanted = weights["state_proj.weight"].bfloat16().float().numpy().T
    np.testing.assert_array_equal(np.asarray(kernel, np.float32), wanted)


def test_flags_are_recorded(tmp_path: Path, openpi: Path) -> None:
    flags = ("--cameras", "a,b", "--delta-dims", 2, "--action-horizon", 9, "--asset-id", "robot")
    assert convert(openpi, tmp_path / "p", "--dtype", "bfloat16", *flags) == 0
    spec = load_policy(tmp_path / "p").spec
    assert (spec.robot.cameras, spec.asset_id) == (("a", "b"), "robot")
    assert spec.action_space.delta_mask == (True, True)
    assert (spec.model.action_horizon, spec.model.compute_dtype) == (9, "bfloat16")


def test_what_an_openpi_folder_does_not_say_is_assumed_or_told(
    tmp_path: Path, openpi: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """How it normalises, and how many actions of a chunk are executed."""
    assert convert(openpi, tmp_path / "p") == 0
    rows = capsys.readouterr().out.splitlines()
    assert "normalisation mean and deviation" in rows
    assert "executed      5 actions of each chunk" in rows
    said = "\n".join(rows)
    assert "mean and deviation is assumed, as openpi does for a pi0; for the other" in said
    assert "5 executed actions of each chunk are assumed" in said
    assert convert(openpi, tmp_path / "q", "--quantile", "--execute-steps", 3) == 0
    said = capsys.readouterr().out
    assert "normalisation 1 % and 99 % quantiles" in said and " is assumed, as openpi" not in said
    assert "3 actions of each chunk" in said and "executed actions of each chunk are" not in said
    spec = load_policy(tmp_path / "q").spec
    assert (spec.quantile, spec.execute_steps) == (True, 3)
    assert convert(openpi, tmp_path / "r", "--execute-steps", 60) == 2
    assert "between 1 and the action horizon" in capsys.readouterr().err


def test_overwrite_replaces_an_earlier_policy_and_nothing_else(
    tmp_path: Path, openpi: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(openpi, tmp_path / "p") == 0
    (tmp_path / "p/old").touch()
    assert convert(openpi, tmp_path / "p") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "p/old").exists()
    assert convert(openpi, tmp_path / "p", "--overwrite") == 0
    assert not (tmp_path / "p/old").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").touch()
    assert convert(openpi, tmp_path / "mine", "--overwrite") == 2
    assert "was not written by pi0_jax" in capsys.readouterr().err
    for source in (openpi, f"file://{openpi}"):
        assert convert(source, openpi, "--overwrite") == 2
        assert "DST must not be SRC" in capsys.readouterr().err
    for base in (tmp_path / "p", f"file://{tmp_path}/p/params"):
        assert convert(openpi, tmp_path / "p", "--overwrite", "--base", base) == 2
        assert "DST must not be --base or hold it" in capsys.readouterr().err
    assert {child.name for child in tmp_path.iterdir()} == {"p", "mine"}
