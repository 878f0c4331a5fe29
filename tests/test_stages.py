"""The stages of train.py: where the base policy comes from, and how often weights are read."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from loops import LONGEST
from tiny import episode, policy_folder

from pi0_jax.apps import train
from pi0_jax.apps.cli import Arguments
from pi0_jax.apps.config_file import load_config
from pi0_jax.apps.eval_reference import find_base
from pi0_jax.apps.sections import DemonstrationsConfig
from pi0_jax.apps.settings import train_config, train_settings
from pi0_jax.apps.stages import base_policy, demonstrations, initial_policy
from pi0_jax.apps.train import guidance_of, main
from pi0_jax.data.action_space import ActionSpace
from pi0_jax.data.demonstrations import Recorded
from pi0_jax.env.demonstrator import DemonstratorConfig
from pi0_jax.env.scripted import ScriptedTask
from pi0_jax.env.suite import Suite
from pi0_jax.env.workers.in_process import InProcess
from pi0_jax.io.digests import check_digests
from pi0_jax.io.orbax_tree import load_shapes
from pi0_jax.policy import folder
from pi0_jax.policy.folder import load_policy, save_policy
from pi0_jax.policy.reference_fit import check_reference
from pi0_jax.robot import numbered
from pi0_jax.rollout.episode_log import EpisodeLog
from pi0_jax.rollout.evaluate import EvalConfig
from pi0_jax.rollout.guidance import PLAIN, Guidance
from pi0_jax.run.folder import RunFolder
from pi0_jax.run.session import Session

SUITE = Suite("scripted", (ScriptedTask(),), DemonstratorConfig())


def test_statistics_are_the_checkpoint_s_or_the_data_s(tmp_path, blind_params):
    """With the data's, a checkpoint of a robot with 5 actions acts on this one."""
    plain = policy_folder(blind_params)
    other = dataclasses.replace(plain.spec.robot, actions=numbered("action", 5))
    spec = dataclasses.replace(plain.spec, robot=other, action_space=ActionSpace((True,)))
    given = dataclasses.replace(plain, spec=spec)
    save_policy(tmp_path / "p", given, {})
    start, demos = load_config("demo"), Recorded([episode(6, [0, 4])])
    start.execute_steps = 0
    start.init.checkpoint = str(tmp_path / "p")
    found = initial_policy(train_settings(start), SUITE, demos)
    assert found.spec == spec
    np.testing.assert_array_equal(found.stats.actions.mean, given.stats.actions.mean)
    start.init.statistics = "demonstrations"
    start.demonstrations.std_floor = 0.0
    found = initial_policy(train_settings(start), SUITE, demos)
    assert found.spec == dataclasses.replace(spec, robot=SUITE.robot)
    expected = demos.stats(ActionSpace((True,)), spec.model.action_horizon, 0.0)
    np.testing.assert_array_equal(found.stats.actions.mean, expected.actions.mean)
    np.testing.assert_array_equal(found.params["cond_embed"], given.params["cond_embed"])


def test_guidance_is_evaluated_where_two_branches_are_trained():
    methods = train_settings(load_config("demo:full")).methods(tasks=1)
    evaluation = EvalConfig(episodes=1, first_seed=0, guidance=(0.0, 3.0))
    points = {name: guidance_of(ript, evaluation) for name, ript in methods.items()}
    guided = tuple(Guidance(scale, "unconditional") for scale in (0.0, 3.0))
    assert points.pop("ript") == (PLAIN, *guided)
    assert points == {"continued_sft": (PLAIN,), "filtered_bc": (PLAIN,)}
    # Away from the base every method can be guided.
    evaluation = dataclasses.replace(evaluation, reference="unconditional+base")
    points = {name: guidance_of(ript, evaluation) for name, ript in methods.items()}
    from_base = tuple(Guidance(scale, "base") for scale in (0.0, 3.0))
    assert points.pop("ript") == (PLAIN, *guided, *from_base)
    assert points == {name: (PLAIN, *from_base) for name in ("continued_sft", "filtered_bc")}


@pytest.fixture
def config(tmp_path, blind_params):
    """RIPT of one iteration from a checkpoint, without any demonstration."""
    save_policy(tmp_path / "given", policy_folder(blind_params), {})
    found = train_config("scripted")
    found.pool.update({"workers": 1, "timeout_s": 20.0})
    found.task.update({"max_steps": 8, "image_size": 16, "tolerance": 0.5})
    found.model = "tiny"
    found.init.checkpoint = str(tmp_path / "given")
    found.sft.update({"steps": 0, "batch_size": 8, "time_samples": 2})
    # The sizes, optimizer and schedule of the loops' tests, whose compiled update this is.
    expert = {"learning_rate": 1e-3, "warmup_steps": 1, "preset": "expert_only"}
    found.sft.optimizer.update(expert)
    found.rl.update({"iterations": 1, "updates_per_iteration": LONGEST, "batch_size": 8})
    found.rl.time_samples = 2
    found.rl.groups.update({"group_size": 2, "groups_per_iteration": 1, "max_groups": 1})
    found.rl.groups.dynamic_sampling = False
    found.rl.optimizer.update(expert)
    found.eval.update({"episodes": 1, "first_seed": 0, "guidance": (1.0,), "num_flow_steps": 1})
    found.eval.videos = 0
    return found


def test_a_given_checkpoint_is_read_once_and_linked(tmp_path, config, monkeypatch, capsys):
    """Its frozen leaves lie in RUN/start, so the run needs the given folder no more."""
    read, load = [], folder.load_tree

    def counted(path):
        read.append(path)
        return load(path)

    monkeypatch.setattr(folder, "load_tree", counted)
    run, given = tmp_path / "run", tmp_path / "given"
    main(Arguments(config, run, resume=False))
    assert read == [given / "params"]
    assert not (run / "base").exists()
    assert json.loads((run / "base.json").read_text())["checkpoint"] == str(given)
    assert load_policy(run / "policy").spec == load_policy(given).spec
    assert "start: linked" in capsys.readouterr().err
    assert (run / "start/config.json").samefile(given / "config.json")
    left = json.loads((run / f"checkpoints/{LONGEST}/frozen.json").read_text())["leaves"]
    # Each trained leaf with its two moments, and four counts of steps.
    trained = len(jax.tree.leaves(load_policy(given).params)) - left
    assert len(load_shapes(run / f"checkpoints/{LONGEST}/state")) == 3 * trained + 3

    results, policy = ((run / n).read_bytes() for n in ("results.json", "policy/digests.json"))
    main(Arguments(config, run, resume=True))
    assert (run / "results.json").read_bytes() == results
    # An evaluation knows the policy by this file, so it stays as long as the policy is the same.
    assert (run / "policy/digests.json").read_bytes() == policy
    (run / "policy/config.json").write_text("{}")
    given.rename(tmp_path / "gone")
    main(Arguments(config, run, resume=True))
    assert (run / "results.json").read_bytes() == results
    assert f"config.init names is gone; {run / 'start'} is used" in capsys.readouterr().err
    assert (run / "policy/digests.json").read_bytes() != policy
    check_digests(run / "policy")
    assert (
        find_base(load_policy(run / "policy"), EvalConfig(1, 0, (2.0,), reference="base"))
        == run / "start"
    )


def test_the_policy_is_stored_before_videos_are_made(tmp_path, config, monkeypatch):
    def fails(*_):
        raise OSError("no display")

    monkeypatch.setattr(train, "record_videos", fails)
    run = tmp_path / "run"
    with pytest.raises(OSError, match="no display"):
        main(Arguments(config, run, resume=False))
    check_digests(run / "policy")
    assert not (run / "report.html").exists()


def test_what_is_not_trained_is_not_written_out_again(tmp_path, config):
    config.rl.iterations = 0
    main(Arguments(config, tmp_path / "run", resume=False))
    assert not [path for path in (tmp_path / "run").rglob("params")]
    assert json.loads((tmp_path / "run" / "results.json").read_text())["rows"]


def test_a_checkpoint_with_the_data_s_statistics_is_a_base_of_its_own(tmp_path, config):
    """RUN/base.json would name a policy that acts in other units than the one that RL improves."""
    config.init.statistics, config.demonstrations.episodes = "demonstrations", 1
    run, demos = RunFolder(tmp_path / "run", {}, resume=False), Recorded([episode(6, [0, 4])])
    base = base_policy(Session(run, SUITE, None, seed=0, rows=8), train_settings(config), demos)
    assert base.path == tmp_path / "run/base" and not (tmp_path / "run/base.json").exists()
    stored, given = load_policy(base.path), load_policy(tmp_path / "given")
    np.testing.assert_array_equal(stored.stats.actions.mean, base.stats.actions.mean)
    assert (stored.stats.actions.mean != given.stats.actions.mean).any()
    check_reference(dataclasses.replace(base, path=None), stored)


def test_the_policy_carries_its_base_and_is_guided_away_from_it(tmp_path, config, capsys):
    config.keep_reference = True
    config.eval.reference, config.eval.guidance = "base", (2.0,)
    main(Arguments(config, tmp_path / "run", resume=False))
    results = json.loads((tmp_path / "run/results.json").read_text())
    scales = [(row["method"], row["guidance"]) for row in results["rows"]]
    assert scales == [("base", 1.0), ("ript", 1.0), ("ript", 2.0)]
    assert [(one["guidance"], one["against"]) for one in results["paired"]] == [(2.0, 1.0)]
    said = capsys.readouterr().err
    assert "ript: guidance from a base" in said
    assert "ript, guidance 2 from base against 1 on the same states: won" in said
    given, found = load_policy(tmp_path / "given"), load_policy(tmp_path / "run/policy")
    jax.tree.map(np.testing.assert_array_equal, found.reference, given.params)
    # Training from it starts from the policy; the reference of what comes of it is another.
    config.init.checkpoint = str(tmp_path / "run/policy")
    assert initial_policy(train_settings(config), SUITE, Recorded([])).reference is None


def test_demonstrations_that_were_made_are_kept_one_by_one(tmp_path, monkeypatch):
    """Stopped after the second of five, it makes the other three."""
    config = DemonstrationsConfig(episodes=5)

    def session(path):
        run = RunFolder(path, {}, resume=(path / "config.json").exists(), verbosity=0)
        return Session(run, SUITE, InProcess(), seed=0, rows=8)

    whole = demonstrations(session(tmp_path / "whole"), config)
    add, made = EpisodeLog.add, []

    def stopping(log, episode):
        add(log, episode)
        made.append(episode)
        if len(made) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(EpisodeLog, "add", stopping)
    with pytest.raises(KeyboardInterrupt):
        demonstrations(session(tmp_path / "run"), config)
    found = demonstrations(session(tmp_path / "run"), config)
    assert len(made) == 5
    for one, other in zip(found.episodes, whole.episodes, strict=True):
        assert one.seed == other.seed
        np.testing.assert_array_equal(one.actions, other.actions)
    files = [
        path / "episodes/demonstrations.npz" for path in (tmp_path / "whole", tmp_path / "run")
    ]
    assert len({file.stat().st_size for file in files}) == 1
    assert not (tmp_path / "run/episodes/demonstrations.parts").exists()
    demonstrations(session(tmp_path / "run"), config)
    assert len(made) == 5
