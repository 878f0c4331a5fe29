"""A fine-tuning from a policy folder and a LeRobot folder to a policy folder and a report."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import lerobot_folders
import numpy as np
import pytest
from lerobot_folders import LEROBOT, Sound, add_outcomes
from skips import slow
from tiny import CONFIG

from pi0_jax.apps.cli import Arguments
from pi0_jax.apps.config_file import load_config
from pi0_jax.apps.finetune_settings import fine_tune_settings
from pi0_jax.apps.finetune_start import find_start
from pi0_jax.apps.train import main
from pi0_jax.data import stats
from pi0_jax.data.action_space import ActionSpace
from pi0_jax.data.lerobot.folder import read_lerobot
from pi0_jax.errors import InputError
from pi0_jax.io.metrics_writer import read_metrics
from pi0_jax.model.pi0 import COND_EMBED
from pi0_jax.policy.folder import load_policy, save_policy
from pi0_jax.robots import load_robot
from pi0_jax.testing import tiny_policy
from pi0_jax.training import checkpoint

PANDA = load_robot("libero_panda")
DATA = Sound(["lift", "stack", "lift", "stack"], [9, 8, 9, 7], 16)


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> dict[str, Path]:
    """A policy of another robot, one of this robot, and demonstrations."""
    path = tmp_path_factory.mktemp("finetune")
    base = tiny_policy()
    other = dataclasses.replace(base.spec.robot, name="another")
    spec = dataclasses.replace(base.spec, robot=other)
    save_policy(path / "base", dataclasses.replace(base, spec=spec), {})
    spec = dataclasses.replace(spec, robot=PANDA, action_space=ActionSpace((True,)))
    save_policy(path / "panda", dataclasses.replace(base, spec=spec), {})
    lerobot_folders.write(path / "data", "v2.1", DATA, LEROBOT)
    return {name: path / name for name in ("base", "panda", "data")}


def config(given: dict[str, Path], policy: str = "base", robot: str = "libero_panda"):
    found = load_config(f"finetune:robot={robot},preset=debug")
    found.init.checkpoint = str(given[policy])
    found.demonstrations.lerobot = str(given["data"])
    found.sft.update({"steps": 4, "save_every": 2, "batch_size": 4, "log_every": 1})
    # Nothing goes back through the prefix, which is half of the time to compile.
    found.sft.optimizer.preset = "expert_only"
    found.held_out.update({"share": 0.25, "windows": 5, "num_flow_steps": 1, "shown": 1})
    found.rows = 4
    found.verbosity = 0
    return found


@pytest.fixture(scope="module")
def run(given, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run"
    main(Arguments(config(given), path, resume=False))
    return path


def held_out(run: Path) -> list[dict]:
    return [x for x in read_metrics(run / "metrics.jsonl") if x["phase"] == "held_out"]


def test_the_result_is_the_best_policy_of_this_robot(run, given):
    policy = load_policy(run / "policy")
    assert policy.spec.robot == dataclasses.replace(PANDA, masked_cameras=("right_wrist_0_rgb",))
    assert policy.spec.action_space == ActionSpace()
    # The statistics say which data they are of, and travel with the policy.
    assert policy.stats.origin
    assert policy.stats.origin.data == read_lerobot(given["data"], None).digest
    np.testing.assert_allclose(
        policy.stats.state.mean, np.concatenate(DATA.state).astype(float).mean(0)
    )
    lines = held_out(run)
    assert [line["step"] for line in lines] == [0, 2, 4]
    best = min(lines[1:], key=lambda line: line["error"])["step"]
    # What is frozen lies in the run once.
    trees = (run / "checkpoints" / str(best) / "state", run / "start" / "params")
    stored = [leaf for tree in trees for leaf in jax.tree.leaves(checkpoint.load_tree(tree))]
    for leaf in jax.tree.leaves(policy.params):
        assert any(np.array_equal(leaf, one) for one in stored if one.shape == leaf.shape)


def test_every_dimension_is_told_at_the_first_tenth_and_last_step(run):
    line = held_out(run)[-1]
    names = [dimension.name for dimension in PANDA.actions]
    assert {k for k in line if k.startswith("error_")} == {
        f"error_{step}/{name}" for step in (1, CONFIG.action_horizon) for name in names
    }
    assert line["loss"] > 0 and line["error"] > 0


def test_the_report_shows_errors_curves_and_pictures(run):
    page = (run / "report.html").read_text()
    assert "standard deviations from those of held-out episodes" in page
    assert "Action error on held-out episodes" in page
    assert page.count('class="trace"') == 7
    episodes = json.loads((run / "held_out" / "episodes.json").read_text())
    (one,) = episodes["episodes"]
    assert [chunk["start"] for chunk in one["chunks"]] == list(range(0, len(one["recorded"]), 4))
    assert sum(len(chunk["actions"]) for chunk in one["chunks"]) == len(one["recorded"])
    np.testing.assert_allclose(one["recorded"], DATA.actions[one["number"]], rtol=1e-4)
    assert all((run / "held_out" / p["file"]).exists() for p in one["pictures"])
    assert "Not there yet" not in page


@slow
def test_a_run_that_lost_its_end_comes_to_the_same(run, given, tmp_path):
    again = tmp_path / "run"
    shutil.copytree(run, again)
    shutil.rmtree(again / "policy")
    shutil.rmtree(again / "checkpoints" / "4")
    main(Arguments(config(given), again, resume=True))
    one, other = (load_policy(path / "policy") for path in (run, again))
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)

    def told(path: Path) -> list[dict]:
        """The lines without clocks."""
        clocks = ("time", "elapsed", "seconds_train")
        return [{k: v for k, v in x.items() if k not in clocks} for x in held_out(path)]

    assert told(run) == told(again)


def test_a_run_goes_on_with_the_same_settings_alone(run, given):
    with pytest.raises(InputError, match=r"holds a run already; add --resume"):
        main(Arguments(config(given), run, resume=False))
    other = config(given)
    other.held_out.share = 0.5
    with pytest.raises(InputError, match=r"another config .held_out\.share"):
        main(Arguments(other, run, resume=True))


@slow
def test_outcomes_train_both_branches(given, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(given["data"], data)
    add_outcomes(data, success=[1, 0, 1, 1])
    found = config(given)
    found.demonstrations.update({"lerobot": str(data), "weights": "success"})
    found.sft.update({"steps": 2})
    found.sft.optimizer.update({"rules": (("cond_embed", 20.0),), "warmup_steps": 1})
    main(Arguments(found, tmp_path / "run", resume=False))
    folders = (given["base"], tmp_path / "run" / "policy")
    before, after = (load_policy(folder).params[COND_EMBED] for folder in folders)
    assert (before != after).any(axis=1).all()
    line = next(x for x in read_metrics(tmp_path / "run/metrics.jsonl") if x["phase"] == "sft")
    assert line["loss_cond"] > 0 and line["loss_uncond"] > 0


def start_of(given, *changes, **keys):
    found = config(given, **keys)
    for change in changes:
        change(found)
    return find_start(fine_tune_settings(found))


def test_a_policy_of_this_robot_keeps_what_it_was_trained_with(given):
    assert start_of(given, policy="panda").spec.action_space == ActionSpace((True,))
    own = start_of(given, lambda c: c.init.update({"statistics": "checkpoint"}), policy="panda")
    assert own.stats.actions.std.tolist() == [0.6] * 7


def test_another_robot_than_the_policy_s_is_an_error(given, tmp_path):
    file = tmp_path / "mine.json"
    changed = dataclasses.replace(PANDA, gripper="high_opens")
    file.write_text(json.dumps(dataclasses.asdict(changed)))
    with pytest.raises(InputError, match="gripper is high_closes in the policy folder and high_op"):
        start_of(given, policy="panda", robot=str(file))
    with pytest.raises(
        InputError, match=r"another robot than config\.robot names: name is another"
    ):
        start_of(given, lambda c: c.init.update({"statistics": "checkpoint"}))


def test_statistics_from_a_file_must_be_of_these_data(given, tmp_path):
    out = str(tmp_path / "norm_stats.json")
    flags = [str(given["data"]), "--robot", "libero_panda", "--out", out]
    stats.main([*flags, "--horizon", "4"])
    use = lambda c: c.init.update({"statistics": out})  # noqa: E731
    assert start_of(given, use).stats.origin == start_of(given).stats.origin
    stats.main([*flags, "--overwrite"])
    with pytest.raises(InputError, match="statistics with horizon 50 and this training has 4"):
        start_of(given, use)


def test_the_robot_that_the_folder_describes(given):
    spec = start_of(given, robot="lerobot").spec
    assert spec.robot.cameras == ("image", "image2")
    assert spec.robot.control_hz == lerobot_folders.FPS


def test_cameras_by_their_names_in_the_folder(given):
    swapped = start_of(given, lambda c: c.demonstrations.update({"cameras": ("image2", "image")}))
    one = swapped.everything.recordings[0].observation(0, 16)
    assert one.images[:, 0, 0, 0].tolist() == [100, 0]
    with pytest.raises(InputError, match="names 1, and robot 'libero_panda' has 2: agentview"):
        start_of(given, lambda c: c.demonstrations.update({"cameras": ("image",)}))


def test_a_mixture_has_one_order_of_cameras(given, tmp_path):
    """The second folder lists the wrist first; the first says which robot it is."""
    shutil.copytree(given["data"], tmp_path / "other")
    info = json.loads((tmp_path / "other/meta/info.json").read_text())
    info["features"] = dict(reversed(info["features"].items()))
    (tmp_path / "other/meta/info.json").write_text(json.dumps(info))
    assert read_lerobot(tmp_path / "other", None).robot.cameras == ("image2", "image")
    shares = tuple((str(path), 1.0) for path in (given["data"], tmp_path / "other"))
    mix = lambda c: c.demonstrations.update({"lerobot": "", "mixture": shares})  # noqa: E731
    folders = start_of(given, mix, robot="lerobot").everything.folders
    for folder in folders:
        picture = folder.recordings[0].observation(0, 16).images[:, 0, 0, 0]
        assert picture.tolist() == [0, 100]


def test_the_update_is_checked_before_anything_is_read_or_written(given):
    wrong = lambda c: c.sft.optimizer.update({"rules": (("cond_embd", 20.0),)})  # noqa: E731
    with pytest.raises(InputError, match=r"config\.sft: optimizer rule 'cond_embd' matches no"):
        start_of(given, wrong)
    small = lambda c: c.hardware.update({"memory_gb": 1e-4})  # noqa: E731
    with pytest.raises(InputError, match=r"config\.sft: .* but a device has 0.00 GB"):
        start_of(given, small)


def test_settings_of_a_loss_that_is_not_used(given):
    with pytest.raises(InputError, match=r"config\.cfg is set .*alpha 0\.3.* one branch"):
        start_of(given, lambda c: c.cfg.update({"alpha": 0.3}))
    with pytest.raises(InputError, match=r"^config\.cfg\.alpha must be a number"):
        start_of(given, lambda c: c.cfg.update({"alpha": -0.3}))


def test_outcomes_are_told_and_need_a_branch_to_train(given, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(given["data"], data)
    add_outcomes(data, success=[1, 0, 1, 1])
    use = lambda c: c.demonstrations.update({"lerobot": str(data)})  # noqa: E731
    notes = [str(one) for one in start_of(given, use).findings]
    assert any("1 of 4 episodes failed and are imitated like the others" in one for one in notes)
    weigh = lambda c: c.demonstrations.update({"weights": "success"})  # noqa: E731
    with pytest.raises(InputError, match="rules freeze cond_embed, which tells the branches apart"):
        start_of(given, use, weigh)
    train = lambda c: c.sft.optimizer.update({"rules": (("cond_embed", 20.0),)})  # noqa: E731
    start = start_of(given, use, weigh, train)
    assert not any("failed" in str(one) for one in start.findings)
    assert sorted(start.everything.worths()) == [0, 1, 1, 1]


def test_frames_may_be_kept(given, tmp_path):
    keep = lambda c: c.demonstrations.update({"cache": str(tmp_path / "frames")})  # noqa: E731
    start = start_of(given, keep)
    # As the windows of a training do: frames of other sizes are not kept.
    start.everything.recordings[0].cache.keep(16)
    one, plain = (x.everything.recordings[0].observation(1, 16) for x in (start, start_of(given)))
    np.testing.assert_array_equal(one.images, plain.images)
    assert len(list((tmp_path / "frames").iterdir())) == 2
    assert all(recording.cache for recording in start.learnt.recordings)


BAD = {
    "data of another robot": ({"robot": "aloha"}, "expected one camera 'cam_right_wrist', got"),
    "no such policy": ({"init.checkpoint": "/no"}, "expected a policy folder, found none at /no"),
    "no such folder": ({"demonstrations.lerobot": "/no"}, "expected a LeRobot folder with meta/"),
    "no steps": ({"sft.steps": 0}, "config.sft.steps must be at least 1"),
    "no folder": ({"demonstrations.lerobot": ""}, "a folder, and .mixture, several .*got none"),
    "two kinds": ({"demonstrations.mixture": (("a", 1.0),)}, "got both"),
    "a share of 0": (
        {"demonstrations.lerobot": "", "demonstrations.mixture": (("a", 0.0),)},
        "must be pairs such as",
    ),
    "outcomes that are not there": (
        {"demonstrations.weights": "success"}, "and no folder has the column success",
    ),
    "an unknown worth": ({"demonstrations.weights": "luck"}, "weights must be one of 'none', 'su"),
    "unknown statistics": ({"init.statistics": "x"}, "init.statistics must be one of checkpoint"),
    "a share of all": ({"held_out.share": 1.0}, r"held_out.share must be a number in \(0, 0.5\]"),
    "what cannot be let pass": ({"demonstrations.allow": ("rows",)}, "takes limits, gripper"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_before_anything_is_written(given, tmp_path, name):
    changes, message = BAD[name]
    found = config(given)
    for key, value in changes.items():
        section, _, last = key.rpartition(".")
        part = found[section] if section else found
        part[last] = value
    with pytest.raises(InputError, match=message) as error:
        main(Arguments(found, tmp_path / "run", resume=False))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_config_of_an_earlier_run_and_a_yaml_file(run, given, tmp_path):
    fine_tune_settings(load_config(str(run / "config.json")))
    file = tmp_path / "mine.yaml"
    text = "base: finetune:robot=so101,preset=debug\ndemonstrations.lerobot: data\nsft.steps: 7\n"
    file.write_text(text)
    assert fine_tune_settings(load_config(str(file))).sft.steps == 7
    with pytest.raises(ValueError, match="takes robot=NAME"):
        load_config("finetune:robot=so101,preset=tpu9")
