"""No file that may matter is overlooked; what is known to change nothing is listed."""

import json
from pathlib import Path

import pytest
from checkpoints import TorchGolden
from safetensors.numpy import save_file

from pi0_jax.convert.commands import info, torch_to_flax
from pi0_jax.convert.commands.command import status
from pi0_jax.convert.sources.folder_files import account, beside
from pi0_jax.errors import InputError


def make(folder: Path, *names: str) -> list[Path]:
    """A folder of empty files; its weights."""
    for name in ("model.safetensors", *names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return [folder / "model.safetensors"]


KNOWN = {
    "openpi": ["optimizer.pt", "metadata.pt", "assets/org/robot/norm_stats.json"],
    "lerobot": [
        *("config.json", "train_config.json", "README.md", ".gitattributes"),
        *("training_state/rng_state.safetensors", "training_state/training_step.json"),
        "training_state/optimizer_param_groups.json",
    ],
    "transformers": ["generation_config.json", "tokenizer_config.json", "trainer_state.json"],
    "DeepSpeed": ["zero_pp_rank_0_mp_rank_00_optim_states.pt", "latest", "zero_to_fp32.py"],
    "evaluation": ["eval_results.json", "videos/1.mp4", "wandb/run-1/files/config.json"],
}


@pytest.mark.parametrize("who", KNOWN)
def test_known_files_are_listed_or_read(who: str, tmp_path: Path) -> None:
    weights = make(tmp_path, *KNOWN[who])
    read = ("config.json", "assets/org/robot/norm_stats.json")
    unread = [name for name in KNOWN[who] if name not in read]
    assert account(tmp_path, weights) == sorted(unread)


@pytest.mark.parametrize(
    "name",
    [
        *("dataset_stats.json", "extra/value.pt", "ema_weights.npz", "custom_checkpoint_0.pkl"),
        "policy_preprocessor_step_5_normalizer_processor.safetensors",
    ],
)
def test_what_nobody_reads_is_an_error(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    weights = make(folder, "README.md", name)
    if "/" in name:
        # A folder with a file of weights is another checkpoint.
        assert account(folder, weights) == ["README.md", "extra/"]
        return
    with pytest.raises(InputError, match=f"c: {name} may hold weights, .+--ignore NAME"):
        account(folder, weights)
    assert account(folder, weights, [name]) == sorted(["README.md", name])


def test_the_state_of_a_processor_is_named_by_it(tmp_path: Path) -> None:
    state = "policy_preprocessor_step_5_normalizer_processor.safetensors"
    weights = make(tmp_path, state)
    steps = {"steps": [{"state_file": state}]}
    (tmp_path / "policy_preprocessor.json").write_text(json.dumps(steps))
    (tmp_path / "config.json").write_text('{"type": "pi0"}')
    assert account(tmp_path, weights) == []


@pytest.mark.parametrize("config", [None, '{"action_dim": 32}', '{"vlm_config": {}, "type": 1}'])
def test_processors_without_a_config_of_lerobot(config: str | None, tmp_path: Path) -> None:
    names = ("policy_postprocessor.json", "policy_preprocessor.json")
    state = "policy_preprocessor_step_5_normalizer_processor.safetensors"
    weights = make(tmp_path, *names, state)
    for name in names:
        (tmp_path / name).write_text(json.dumps({"steps": [{"state_file": state}]}))
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError, match=rf"{names[0]}, {names[1]}, {state} may hold"):
        account(tmp_path, weights)
    assert account(tmp_path, weights, [*names, state]) == [*names, state]


def test_other_checkpoints_below_are_named_by_their_folders(tmp_path: Path) -> None:
    weights = make(tmp_path, "checkpoint-500/model.safetensors", "train_state/_METADATA")
    make(tmp_path / "other", "adapter_model.safetensors")
    (tmp_path / "up").symlink_to(tmp_path)
    names = ["checkpoint-500/", "other/", "train_state/", "up/"]
    assert account(tmp_path, weights) == names


def test_only_a_folder_is_accounted_for(tmp_path: Path) -> None:
    weights = make(tmp_path / "a/step", "ema.npz")
    folder = tmp_path / "a/step"
    assert beside(weights[0], folder, weights, []) == []
    # params/ alone was given: its folder is not the user's concern.
    assert beside(folder / "params", folder, weights, []) == []
    for path in (folder, tmp_path / "a"):
        with pytest.raises(InputError, match=r"ema\.npz"):
            beside(path, folder, weights, [])


def test_a_conversion_accounts_for_files(
    torch_golden: TorchGolden, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = torch_golden("tiny_pi0_torch_lerobot_new")
    source = tmp_path / "source"
    source.mkdir()
    for file in golden.iterdir():
        (source / file.name).symlink_to(file)
    (source / "README.md").touch()
    save_file({}, source / "corrections.safetensors")
    # By its ending it holds weights: a second set.
    assert status(torch_to_flax.main, [str(source), str(tmp_path / "p")]) == 2
    assert "several sets of weights" in capsys.readouterr().err
    (source / "corrections.safetensors").rename(source / "corrections.json")
    assert status(torch_to_flax.main, [str(source), str(tmp_path / "p")]) == 2
    assert "corrections.json may hold" in capsys.readouterr().err
    assert status(info.main, [str(source)]) == 0
    assert "corrections.json may hold" in capsys.readouterr().out
    ignore = ["--ignore", "corrections.json"]
    assert status(torch_to_flax.main, [str(source), str(tmp_path / "p"), *ignore]) == 0
    manifest = json.loads((tmp_path / "p/manifest.json").read_text())
    assert manifest["files_beside"] == ["README.md", "corrections.json"]


def test_a_dead_link_to_what_may_matter(tmp_path: Path) -> None:
    weights = make(tmp_path)
    (tmp_path / "README.md").symlink_to("gone")
    assert account(tmp_path, weights) == ["README.md"]
    (tmp_path / "config.json").symlink_to("gone")
    with pytest.raises(
        InputError, match=r"config\.json: a link to gone, which is not there; fetch"
    ):
        account(tmp_path, weights)
    assert account(tmp_path, weights, ["config.json"]) == ["README.md", "config.json"]


@pytest.mark.parametrize("name", ["params/norm.json", "a/b/c/norm_stats.json"])
def test_places_where_nobody_looks(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{name} may hold weights, statistics or settings"):
        account(tmp_path, make(tmp_path, name))


def test_an_ignored_name_that_is_not_there_is_a_slip(tmp_path: Path) -> None:
    (tmp_path / "extra.json").write_text("{}")
    assert account(tmp_path, [], ["extra.json"]) == ["extra.json"]
    with pytest.raises(InputError, match="has no such file"):
        account(tmp_path, [], ["extra.jsn"])


def test_what_desktops_and_copying_programs_leave(tmp_path: Path) -> None:
    left = ["._config.json", ".DS_Store", ".nfs0001", "Thumbs.db", "config.json~", "#config.json#"]
    weights = make(tmp_path, *left, "__MACOSX/config.json", ".ipynb_checkpoints/a.json")
    (tmp_path / ".#config.json").symlink_to("me@host.123")  # an editor's lock
    assert account(tmp_path, weights) == sorted([*left, ".#config.json"])
