"""--from: what has ended stays, what came later is set aside, and rates alone may change."""

import json

import pytest

from pi0_jax.errors import InputError
from pi0_jax.run.going_back import find_point, free_keys, go_back
from pi0_jax.run.same_config import changes


def checkpoint(folder, step, phase="rl"):
    path = folder / "checkpoints" / str(step)
    path.mkdir(parents=True)
    (path / "host.json").write_text(json.dumps({"phase": phase}))


@pytest.fixture
def run(tmp_path):
    """A baseline with the checkpoints 44 and 48, beside the base's supervised 30 and 40."""
    (tmp_path / "base").mkdir()
    for step in (30, 40):
        checkpoint(tmp_path, step, "sft")
    for step in (44, 48):
        checkpoint(tmp_path / "baselines/filtered_bc", step)
    return tmp_path


def test_later_checkpoints_of_the_method_are_set_aside(run):
    point = find_point(run, 44, done=["base"])
    assert (point.method, point.step) == ("filtered_bc", 44)
    assert go_back(run, point) == [run / "baselines/filtered_bc/checkpoints/48.aside"]
    assert (run / "checkpoints/40").is_dir()


def test_episodes_of_the_policy_that_was_are_set_aside(run):
    """An evaluation that was interrupted would go on with them, under another policy."""
    judged = run / "episodes/eval"
    for name in ("filtered_bc_1.parts", "filtered_bc_1.5_base.parts", "base_1.parts"):
        (judged / name).mkdir(parents=True)
    (judged / "filtered_bc_1.npz").touch()
    for other in ("filtered_bc_alone_1.npz", "filtered_bc_2_1.npz", "filtered_bc_2_1.5_base.npz"):
        (judged / other).touch()  # of other methods
    (run / "episodes/filtered_bc/004.parts").mkdir(parents=True)
    go_back(run, find_point(run, 48, done=["base"]))
    assert sorted(path.name for path in judged.iterdir()) == [
        *("base_1.parts", "filtered_bc_1.5_base.parts.aside", "filtered_bc_1.npz.aside"),
        *("filtered_bc_1.parts.aside", "filtered_bc_2_1.5_base.npz", "filtered_bc_2_1.npz"),
        "filtered_bc_alone_1.npz",
    ]
    assert not (run / "episodes/filtered_bc/004.parts").exists()
    assert go_back(run, find_point(run, 48, done=["base"])) == []


def test_a_method_with_results_is_not_gone_back_to(run):
    done = ["base", "filtered_bc"]
    with pytest.raises(InputError, match=r"--from 44: .*/checkpoints has .* steps \[30, 40\]"):
        find_point(run, 44, done)
    checkpoint(run, 44)
    assert find_point(run, 44, done).method == "ript"
    with pytest.raises(InputError, match="training from there has ended"):
        find_point(run, 44, [*done, "ript"])


def test_rl_that_has_no_checkpoint_begins_anew_from_the_base(run):
    """What the message of a divergence in its first iteration advises."""
    point = find_point(run, 40, ["base", "filtered_bc"])
    assert point.method == "ript" and go_back(run, point) == []
    with pytest.raises(InputError, match="training from there has ended"):
        find_point(run, 30, ["base", "filtered_bc"])


def test_rl_of_a_given_checkpoint_has_no_base_of_its_own(tmp_path):
    """Nothing was trained before it; what it is to the base's evaluation is nothing too."""
    for step in (44, 48):
        checkpoint(tmp_path, step)
    for name in ("base_1.npz", "ript_1.parts"):
        (tmp_path / "episodes/eval" / name).mkdir(parents=True)
    point = find_point(tmp_path, 44, ["base"])
    assert point.method == "ript" and "sft" not in " ".join(free_keys(point, ["base"], ()))
    names = [path.name for path in go_back(tmp_path, point)]
    assert names == ["48.aside", "ript_1.parts.aside"]


def test_nothing_to_go_back_to(tmp_path):
    with pytest.raises(InputError, match="has no checkpoint; leave --from out"):
        find_point(tmp_path, 5, ())


def test_the_newest_of_one_step_stays(tmp_path):
    for name in ("5", "6", "6.1", "7"):
        checkpoint(tmp_path, name)
    assert [path.name for path in go_back(tmp_path, find_point(tmp_path, 6, ()))] == ["7.aside"]
    aside = go_back(tmp_path, find_point(tmp_path, 5, ()))
    assert [path.name for path in aside] == ["6.aside", "6.1.aside"]


def optimizer(**changed):
    return {
        "learning_rate": 1.0,
        "preset": "full",
        "ema_decay": 0.0,
        "rules": [["x", 2.0]],
    } | changed


def of_config(sft, rl, own):
    parts = {"sft": sft, "rl": rl, "baselines": {"filtered_bc": own}}
    return {
        name: {"optimizer": part} if name != "baselines" else {"filtered_bc": {"optimizer": own}}
        for name, part in parts.items()
    }


@pytest.mark.parametrize(
    ("changed", "allowed"),
    [
        ({"rl": {"learning_rate": 0.5}}, True),
        ({"rl": {"rules": [["x", 3.0]]}}, True),
        ({"rl": {"rules": [["x", 0.0]]}}, False),  # frozen: the checkpoint trains it
        ({"rl": {"preset": "lora"}}, False),
        ({"rl": {"ema_decay": 0.9}}, False),
        ({"sft": {"learning_rate": 0.5}}, False),  # it would be written down, and is not so
        ({"own": {"learning_rate": 0.5}}, False),  # this baseline has ended
    ],
)
def test_rates_alone_may_change_of_what_is_trained_from_there_on(run, changed, allowed):
    done = ["base", "filtered_bc"]
    free = free_keys(find_point(run, 40, done), done, ["filtered_bc"])
    before = of_config(optimizer(), optimizer(), optimizer())
    after = of_config(*(optimizer(**changed.get(name, {})) for name in ("sft", "rl", "own")))
    assert (not changes(before, after, {}, free)[0]) == allowed


def test_supervised_training_and_all_after_it(tmp_path):
    checkpoint(tmp_path, 40, "sft")
    free = free_keys(find_point(tmp_path, 40, ()), (), ["filtered_bc"])
    for section in ("sft", "rl", "baselines.filtered_bc"):
        assert f"{section}.optimizer.learning_rate" in free
