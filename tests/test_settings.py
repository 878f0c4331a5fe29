"""Settings parsed once: their keys are the fields, and mistakes are named before a run."""

import dataclasses

import pytest
from ml_collections import ConfigDict

from pi0_jax.apps.config_file import load_config
from pi0_jax.apps.settings import eval_settings, train_config, train_settings
from pi0_jax.errors import InputError


def config(**rl) -> ConfigDict:
    """The demo's, with some keys of `rl` replaced."""
    found = load_config("demo:full")
    found.rl.update(rl)
    return found


def test_a_config_gives_one_frozen_value():
    settings = train_settings(config())
    assert (settings.seed, settings.rows, settings.model) == (0, 8, "tiny")
    assert settings.sft.optimizer.learning_rate == 2e-3
    assert settings.sft.log_every == 20
    assert settings.rl.optimizer.rules == (("cond_embed", 20.0),)
    assert settings.eval.guidance == (1.0, 1.5, 2.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.seed = 1


def test_a_method_is_rl_with_some_keys_replaced():
    methods = train_settings(config()).methods(tasks=1)
    assert list(methods) == ["continued_sft", "filtered_bc", "ript"]
    ript, cloning, sft = methods["ript"], methods["filtered_bc"], methods["continued_sft"]
    assert (ript.objective, ript.groups.dynamic_sampling) == ("cfg_detached", True)
    assert (cloning.objective, cloning.groups.dynamic_sampling) == ("filtered_bc", False)
    assert cloning.advantage.success_weight
    assert cloning.time_samples == ript.time_samples == 2
    assert (sft.groups.groups_per_iteration, sft.groups.group_size) == (0, 8)
    assert cloning.optimizer == ript.optimizer


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("baselines", {"odd": {"cfg": {"alhpa": 1.0}}}, "rl.cfg.alhpa; .* is rl.cfg.alpha"),
        ("baselines", {"odd": {"condition": "x"}}, "rl.condition is now rl.branch_mode"),
        ("baselines", {"eval": {}}, "and none of base, ript, demonstrations, eval, which are"),
        (
            "baselines",
            {"continued_sft": {"groups": {"groups_per_iteration": 0}, "optimizer": {"rules": ()}}},
            "continued_sft.optimizer.rules is set, but a baseline without rollouts has those of",
        ),
        ("rl", {"groups": {"groups_per_iteration": 0}}, "so RL would have no rollouts: set it, or"),
        ("rl", {"rollout_params": "ema"}, "no moving average is kept"),
        ("rl", {"sampling": {"group_size": 4}}, "rl.sampling.group_size is now rl.groups.group_s"),
        ("sft", {"steps": -1}, "sft.steps must be a"),
        ("sft", {"log_every": 0}, "sft.log_every must be a"),
        ("init", {"statistics": "mine"}, "init.statistics must be one of 'checkpoint'"),
        ("demonstrations", {"std_floor": -0.1}, "demonstrations.std_floor must be a"),
        ("pool", {"workers": -1}, "pool.workers must be a"),
        (None, {"seed": -1}, "config.seed must be a"),
        (None, {"verbosity": -1}, "config.verbosity must be a"),
        ("baselines", {"odd": 3}, "config key baselines.odd is a section of several keys, got 3"),
        (None, {"sede": 1}, "unknown config key sede; the nearest valid key is seed"),
    ],
)
def test_what_is_refused(section, changes, message):
    wrong = config()
    (wrong[section] if section else wrong).update(changes)
    with pytest.raises(InputError, match=message):
        train_settings(wrong)


@pytest.mark.parametrize("key", ["rl", "baselines", "task", "eval", "sft"])
def test_a_number_is_no_section(key):
    wrong = ConfigDict(config().to_dict() | {key: 3})
    with pytest.raises(InputError, match=f"config key {key} is a section of several keys, got 3"):
        train_settings(wrong)


def test_what_has_no_default_must_be_set():
    with pytest.raises(InputError, match=r"config key .* is missing; set it"):
        train_settings(train_config("lift"))


def test_an_evaluation_needs_no_sections_of_training():
    whole = config()
    part = ConfigDict({"suite": "lift", "eval": whole.eval.to_dict(), "rl": {"anything": 1}})
    assert eval_settings(part).eval == train_settings(whole).eval
    part.sute = "lift"
    with pytest.raises(InputError, match="unknown config key sute; the nearest valid key is suite"):
        eval_settings(part)


def test_initial_states_by_what_they_are():
    """Four demonstrations of two tasks are two states each; the evaluation's are its own."""
    start = config()
    start.demonstrations.update({"episodes": 4, "first_seed": 30})
    start.eval.update({"episodes": 9, "first_seed": 70})

    def states(name: str):
        start.rl.groups.states = name
        groups = train_settings(start).methods(tasks=2)["ript"].groups
        return groups.first_seed, groups.num_states

    assert states("fresh") == (200_000, 0)
    assert states("demonstrations") == (30, 2)
    assert states("validation") == (70, 9)
    start.rl.groups.mix_states = True
    start.eval.episodes = 4
    with pytest.raises(InputError, match=r"is 'validation', and config.eval.episodes gives 4 per"):
        states("validation")
    start.rl.groups.mix_states = False
    start.demonstrations.episodes = 0
    with pytest.raises(InputError, match="there are no scripted ones"):
        states("demonstrations")
    with pytest.raises(InputError, match="states must be one of 'fresh', 'demonstrations', 'val"):
        states("demos")
