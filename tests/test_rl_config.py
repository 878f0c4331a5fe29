"""Every key of config.rl: its defaults, and what is refused before anything is written."""

import dataclasses

import pytest
from tiny import RIPT, ript

from pi0_jax.errors import InputError
from pi0_jax.rl.advantage import AdvantageConfig
from pi0_jax.rl.config import check_unused_objectives, ript_config
from pi0_jax.training.optimizer import OptimizerConfig

PLAIN = dataclasses.asdict(RIPT)


def test_plain_values_give_the_config():
    assert ript_config(PLAIN) == RIPT
    least = {name: PLAIN[name] for name in ("iterations", "updates_per_iteration", "batch_size")}
    assert ript_config(least | {"groups": PLAIN["groups"]}).advantage == AdvantageConfig()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iterations": -1}, "rl.iterations must be a"),
        ({"demo_fraction": 1.0}, r"rl.demo_fraction must be a number in \[0, 1\), got 1.0"),
        ({"demo_fraction": 0.0, "demo_weight": 0.3}, "no demonstrations are drawn"),
        ({"demo_weight": -0.1}, "rl.demo_weight must be a"),
        (
            {"demo_fraction": 0.01, "demo_weight": 1.0, "batch_size": 8},
            r"rl.demo_fraction 0.01 of rl.batch_size 8 is less than one window",
        ),
        (
            {"demo_fraction": 0.95, "batch_size": 8},
            r"rl.demo_fraction 0.95 of rl.batch_size 8 leaves no window of rollouts",
        ),
        (
            {"demo_fraction": 0.5, "demo_weight": 0.0, "objective": "filtered_bc"},
            "'filtered_bc' trains no unconditional branch, so demonstrations would do nothing",
        ),
        (
            {"objective": "filtered_bc", "guidance": 3.0},
            r"'filtered_bc' needs rl.guidance=1.0 \(got 3.0\)",
        ),
        (
            {"objective": "cfg_detached", "branch_mode": "text_indicator"},
            "'cfg_detached' needs rl.branch_mode='embedding' .got 'text_indicator'.",
        ),
        ({"buffer_iterations": -1}, "rl.buffer_iterations must be a"),
        ({"rollout_params": "mean"}, "rl.rollout_params must be one of 'last', 'ema'"),
        ({"branch_mode": "text"}, "rl.branch_mode must be one of 'embedding', 'prompt_dropout'"),
        ({"groups": {"group_size": 1}}, "rl.groups.group_size must be a"),
        ({"advantage": {"negatives": "no"}}, "rl.advantage.negatives must be one of 'clamp'"),
        ({"windows": {"stride": "x"}}, "rl.windows.stride must be 'executed'"),
        ({"max_drop": -1.0}, "rl.max_drop must be a"),
        ({"log_every": 0}, "rl.log_every must be a"),
        ({"time_samples": 0}, "rl.time_samples must be a"),
        ({"objective": "ppo"}, "rl.objective must be one of 'cfg', 'cfg_detached'"),
        ({"cfg": {"alpha": -1.0}}, "rl.cfg.alpha must be a"),
        ({"cfg_detached": {"alpha": -1.0}}, "rl.cfg_detached.alpha must be a"),
        ({"nft": {"negative_weight": -0.1}}, "rl.nft.negative_weight must be a"),
        ({"nft": {"max_drift": -1.0}}, "rl.nft.max_drift must be a"),
        (
            {"cfg_dropout": {"probability": 1.0}},
            "cfg_dropout.probability must be a number",
        ),
        (
            {"cfg_dropout": {"probability": 0.0}},
            "probability must be a number in",
        ),
        ({"alpha": 0.1}, "unknown config key rl.alpha; the nearest valid key is rl."),
        ({"cfg": {"alhpa": 0.1}}, "unknown config key rl.cfg.alhpa; .* is rl.cfg.alpha"),
    ],
)
def test_what_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        ript(**changes)


NFT = {"objective": "nft", "advantage": {"success_weight": True}, "buffer_iterations": 1}
NFT |= {"demo_fraction": 0.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"advantage": {"success_weight": False}},
            r"advantage\.success_weight=True \(got False\): set all",
        ),
        (
            {"buffer_iterations": 0},
            r"buffer_iterations=1 \(got 0\): set all of them, or choose another",
        ),
        ({"demo_fraction": 0.25}, r"demo_fraction=0\.0 \(got 0\.25\)"),
        ({"guidance": 3.0}, r"guidance=1\.0 \(got 3\.0\)"),
    ],
)
def test_nft_needs_outcomes_of_the_policy_that_acted(changes, message):
    assert str(ript(**NFT).chosen) == "nft, negative weight 0.2, drift at most 0.3"
    with pytest.raises(InputError, match=rf"rl\.objective 'nft' needs rl\.{message}"):
        ript(**NFT | changes)


PG = {
    "objective": "flow_pg",
    "buffer_iterations": 1,
    "demo_fraction": 0.0,
    "advantage": {"negatives": "signed", "clipping": "none"},
}


def test_a_policy_gradient_needs_signed_advantages_of_this_iteration():
    chosen = ript(**PG, flow_pg={"noise_level": 0.7})
    assert (chosen.chosen.rollout_noise, RIPT.chosen.rollout_noise) == (0.7, 0.0)
    assert "signed, positive_mean; embedding, flow_pg, noise level 0.7, one ratio" in str(chosen)
    with pytest.raises(
        InputError,
        match=r"'flow_pg' needs rl.advantage.negatives='signed' \(got 'clamp'\), "
        r"rl.buffer_iterations=1 \(got 0\), rl.demo_fraction=0.0 \(got 0.25\): set all of them",
    ):
        ript(objective="flow_pg")
    for changes, message in (
        ({"guidance": 1.5}, r"rl.guidance=1.0 \(got 1.5\)"),
        ({"windows": {"stride": "4"}}, r"rl.windows.stride='executed' \(got '4'\)"),
    ):
        with pytest.raises(InputError, match=message):
            ript(**PG, **changes)
    success = PG["advantage"] | {"success_weight": True}
    with pytest.raises(InputError, match=r"success_weight=False \(got True\)"):
        ript(**PG | {"advantage": success})


def test_signed_advantages_are_no_danger_to_a_clipped_ratio():
    assert ript(**PG).warning is None
    assert "unbounded below" in ript(**PG | {"objective": "cfg"}).warning


def test_the_log_says_what_is_switched_on():
    said = str(ript(groups={"dynamic_sampling": False, "states": "validation"}))
    assert "2 iterations of 2 groups x 3 from validation states (at most 6 tried" in said
    assert "dynamic sampling off) and 2 updates of 8 windows, 25% demonstrations" in said
    assert "weights clamp, positive_mean; embedding, cfg, alpha 0.1; rollouts at guidance 1" in said
    said = str(ript(advantage={"success_weight": True}, objective="cfg_dropout"))
    assert "weights success; embedding, cfg_dropout 0.1" in said
    assert str(ript(max_drop=2.5)).endswith("; stops 2.5 standard errors below the best")
    assert "stops" not in said


def test_what_is_missing():
    with pytest.raises(InputError, match=r"config key rl\.groups is missing"):
        ript_config({name: value for name, value in PLAIN.items() if name != "groups"})
    with pytest.raises(InputError, match=r"config key rl\.groups\.max_groups is missing"):
        ript_config(PLAIN | {"groups": {"group_size": 2, "groups_per_iteration": 1}})


def test_an_average_that_nobody_keeps():
    averaged = ript(rollout_params="ema")
    averaged.check_optimizer(OptimizerConfig(1e-3, 1, ema_decay=0.9))
    RIPT.check_optimizer(OptimizerConfig(1e-3, 1))
    with pytest.raises(InputError, match=r"rl\.optimizer\.ema_decay is 0 .* set it"):
        averaged.check_optimizer(OptimizerConfig(1e-3, 1))


def test_settings_of_an_objective_that_no_method_chose_are_refused():
    own = {"cfg_dropout": {"probability": 0.3}}
    chosen = ript(objective="cfg_dropout", **own)
    with pytest.raises(InputError, match=r"rl.cfg_dropout is set .* no method with these settings"):
        check_unused_objectives([ript(**own)])
    # Another method uses the objective, but with settings of its own.
    with pytest.raises(InputError, match=r"rl.cfg_dropout is set \(cfg_dropout 0.3\)"):
        check_unused_objectives([ript(**own), ript(objective="cfg_dropout")])
    # The section is shared by both methods, and one of them trains with it.
    check_unused_objectives([ript(**own), chosen])
    check_unused_objectives(
        [RIPT, ript(objective="filtered_bc", demo_fraction=0.0), ript(cfg={"alpha": 1.0})]
    )
