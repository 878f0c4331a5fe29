"""The parts of train.py that turn config.rl into settings and check them before a run."""

import dataclasses
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ml_collections import ConfigDict
from tiny import episode, policy_folder

from pi0_jax.data.demonstrations import Recorded
from pi0_jax.env.demonstrator import DemonstratorConfig
from pi0_jax.env.scripted import ScriptedTask
from pi0_jax.env.suite import Suite
from pi0_jax.errors import InputError
from pi0_jax.policy.folder import save_policy
from pi0_jax.robot import numbered

ROOT = Path(__file__).parents[1]
SUITE = Suite("scripted", (ScriptedTask(),), DemonstratorConfig())


def load(name: str):
    """A module that is a file of the repository's root."""
    spec = importlib.util.spec_from_file_location(f"root_{Path(name).stem}", ROOT / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


train = load("train.py")


def config(**rl) -> ConfigDict:
    """The demo's, with some keys of `rl` replaced."""
    found = load("configs/demo.py").get_config("full")
    found.rl.update(rl)
    return found


def test_an_arm_is_rl_with_some_keys_replaced():
    ript, optimizer = train.method_settings(config(), "ript", SUITE)
    cloning, _ = train.method_settings(config(), "filtered_bc", SUITE)
    sft, _ = train.method_settings(config(), "continued_sft", SUITE)
    assert (ript.objective, ript.groups.dynamic_sampling) == ("cfg", True)
    assert (cloning.objective, cloning.groups.dynamic_sampling) == ("filtered_bc", False)
    assert cloning.advantage.success_weight
    assert cloning.time_samples == ript.time_samples == 2
    assert (sft.groups.groups_per_iteration, sft.groups.group_size) == (0, 8)
    assert optimizer.rules == (("cond_embed", 20.0),)


def test_a_baseline_with_an_unknown_key_is_refused():
    wrong = config()
    wrong.baselines.odd = ConfigDict({"cfg": {"alhpa": 1.0}})
    with pytest.raises(InputError, match=r"rl.cfg.alhpa; the nearest valid key is rl.cfg.alpha"):
        train.method_settings(wrong, "odd", SUITE)


def test_an_average_that_nobody_keeps_is_refused():
    with pytest.raises(InputError, match="no moving average is kept"):
        train.method_settings(config(rollout_params="ema"), "ript", SUITE)


@pytest.mark.parametrize(
    ("branch_mode", "length"),
    # "reach the dot" is 15 tokens, with the words behind it 36; the preset has 16.
    [("embedding", 16), ("prompt_dropout", 16), ("text_indicator", 36)],
)
def test_a_fresh_policy_has_room_for_what_it_is_told(branch_mode, length):
    spec = train.fresh_spec(config(branch_mode=branch_mode), SUITE)
    assert spec.model.prompt_length == length
    assert spec.branch_mode == "embedding"  # until RL says otherwise


def test_a_policy_keeps_the_condition_it_was_trained_with(blind_params):
    plain = policy_folder(blind_params)
    told = train.conditioned(plain, "text_indicator")
    assert told.spec.branch_mode == told.transforms.branch_mode == "text_indicator"
    assert train.conditioned(told, "text_indicator").spec == told.spec
    for other in ("embedding", "prompt_dropout"):
        with pytest.raises(InputError, match="was trained with 'text_indicator': set it to that"):
            train.conditioned(told, other)


def test_a_checkpoint_is_checked_before_anything_is_written(tmp_path, blind_params):
    plain = policy_folder(blind_params)
    save_policy(tmp_path / "p", plain, {})
    start, suite = config(), SUITE
    start.execute_steps = 0
    start.init.checkpoint = str(tmp_path / "p")
    methods = {name: SimpleNamespace(branch_mode=name) for name in ("embedding", "text_indicator")}
    train.check_start(start, suite, [methods["embedding"]])
    with pytest.raises(InputError, match="36 tokens does not fit the model's 16"):
        train.check_start(start, suite, list(methods.values()))
    model = dataclasses.replace(plain.spec.model, prompt_length=36)
    spec = dataclasses.replace(plain.spec, model=model)
    save_policy(tmp_path / "q", dataclasses.replace(plain, spec=spec), {})
    start.init.checkpoint = str(tmp_path / "q")
    train.check_start(start, suite, list(methods.values()))


def test_demonstrations_come_from_one_place_and_from_somewhere():
    start = config()
    train.check_sources(start)
    start.demonstrations.lerobot = "data"
    with pytest.raises(InputError, match="demonstrations come from one place; set the other to"):
        train.check_sources(start)
    start.demonstrations.episodes = 0
    train.check_sources(start)
    start.demonstrations.lerobot = ""
    with pytest.raises(InputError, match="there are no demonstrations: set"):
        train.check_sources(start)
    start.init.checkpoint, start.sft.steps = "policy", 0
    train.check_sources(start)
    start.init.statistics = "demonstrations"
    with pytest.raises(InputError, match="is 'demonstrations', and there are none"):
        train.check_sources(start)


def test_statistics_are_the_checkpoint_s_or_the_data_s(tmp_path, blind_params):
    """With the data's, a checkpoint of a robot with 5 actions acts on this one."""
    plain = policy_folder(blind_params)
    other = dataclasses.replace(plain.spec.robot, actions=numbered("action", 5))
    spec = dataclasses.replace(plain.spec, robot=other, delta_dims=1)
    given = dataclasses.replace(plain, spec=spec)
    save_policy(tmp_path / "p", given, {})
    start, demos = config(), Recorded([episode(6, [0, 4])])
    start.execute_steps = 0
    start.init.checkpoint = str(tmp_path / "p")
    session = SimpleNamespace(suite=SUITE)
    found = train.initial_policy(session, start, demos)
    assert found.spec == spec
    np.testing.assert_array_equal(found.stats.actions.mean, given.stats.actions.mean)
    start.init.statistics = "demonstrations"
    start.demonstrations.std_floor = 0.0
    found = train.initial_policy(session, start, demos)
    assert found.spec == dataclasses.replace(spec, robot=SUITE.robot)
    expected = demos.stats(1, spec.model.action_horizon, 0.0)
    np.testing.assert_array_equal(found.stats.actions.mean, expected.actions.mean)
    np.testing.assert_array_equal(found.params["cond_embed"], given.params["cond_embed"])


def test_a_checkpoint_executes_what_it_says_unless_the_config_says_otherwise(
    tmp_path, blind_params
):
    save_policy(tmp_path / "p", policy_folder(blind_params), {})
    start = config()
    start.init.checkpoint = str(tmp_path / "p")
    for asked, expected in ((0, 3), (2, 2), (4, 4)):
        start.execute_steps = asked
        assert train.given_policy(start, SUITE).spec.execute_steps == expected
    start.execute_steps = 5
    with pytest.raises(InputError, match="between 1 and the action horizon 4, got 5"):
        train.given_policy(start, SUITE)


def test_initial_states_by_what_they_are():
    """Four demonstrations of two tasks are two states each; the evaluation's are its own."""
    start = config()
    two = Suite("two", (ScriptedTask(name="a"), ScriptedTask(name="b")), DemonstratorConfig())
    start.demonstrations.update({"episodes": 4, "first_seed": 30})
    start.eval.update({"episodes": 9, "first_seed": 70})

    def states(name: str):
        start.rl.groups.states = name
        sampling = train.method_settings(start, "ript", two)[0].groups
        return sampling.first_seed, sampling.num_states

    assert states("fresh") == (200_000, 0)
    assert states("demonstrations") == (30, 2)
    assert states("validation") == (70, 9)
    start.demonstrations.episodes = 0
    with pytest.raises(InputError, match="there are no scripted ones"):
        states("demonstrations")
    with pytest.raises(InputError, match="states must be one of 'fresh', 'demonstrations', 'val"):
        states("demos")
