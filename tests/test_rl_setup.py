"""What a loop starts from, and what is refused before anything is compiled or run."""

from dataclasses import replace

import chex
import numpy as np
import pytest
from loops import DEMOS, MIXED, OPTIMIZER
from tiny import RIPT, policy_folder, ript

from pi0_jax.errors import InputError
from pi0_jax.rl.init_states import InitStateSchedule
from pi0_jax.rl.setup import ROWS, create_loop
from pi0_jax.training.hardware import Hardware

pytestmark = pytest.mark.usefixtures("thrift")


def create(
    params, config=RIPT, tasks=(MIXED,), demonstrations=DEMOS, optimizer=OPTIMIZER, **options
):
    folder = policy_folder(params)
    return create_loop(
        folder, tasks, None, config, optimizer, demonstrations=demonstrations, **options
    )


def test_a_loop_starts_with_the_policy_and_an_empty_buffer(blind_params):
    setup, state = create(blind_params, seed=2, first_step=20)
    assert (state.iteration, state.buffer, int(state.train_state.step)) == (0, {}, 0)
    chex.assert_trees_all_equal(state.train_state.params, blind_params)
    # The plan of run seed 2: groups.first_seed is 1000, and run seeds are 10^7 apart.
    assert state.init_states == InitStateSchedule(20_001_000, stream=2)
    assert (setup.seed, setup.first_step, setup.policy.rows) == (2, 20, ROWS)
    # 3 demonstrations with looks at steps 0 and 4 have 6 windows.
    assert len(setup.demos) == 6


def test_updates_may_donate_the_state_and_leave_the_policy(blind_params):
    setup, state = create(blind_params)
    state.train_state.params["cond_embed"].delete()
    assert np.isfinite(setup.base.params["cond_embed"]).all()


def test_a_named_finite_set_of_states_is_the_same_for_every_run_seed(blind_params):
    for states, first in (("fresh", 1000), ("validation", 1000), ("demonstrations", 30_001_000)):
        config = ript(groups={"num_states": 4, "states": states})
        _, state = create(blind_params, config, seed=3)
        assert state.init_states == InitStateSchedule(first, stream=3)


def test_without_a_share_no_demonstrations_are_needed(blind_params):
    setup, _ = create(blind_params, ript(demo_fraction=0.0), demonstrations=None)
    assert setup.demos is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ()}, "tasks: expected at least one task to train on, got none"),
        ({"demonstrations": None}, "rl.demo_fraction is 0.25, but no demonstrations were given"),
        ({"config": ript(rollout_params="ema")}, "no moving average is kept"),
        (
            {"config": ript(max_drop=2.0), "optimizer": replace(OPTIMIZER, ema_decay=0.9)},
            "the policy is an average that makes none: set rl.rollout_params to 'ema'",
        ),
        (
            {"config": ript(groups={"states": "validation"})},
            "rl.groups.states is 'validation': give their rl.groups.first_seed and",
        ),
        (
            {"config": ript(branch_mode="text_indicator")},
            "rl.branch_mode is 'text_indicator', but the policy has 'embedding'",
        ),
        ({"hardware": Hardware(micro_batches=3)}, "batch_size must be a multiple of .* = 3, got 8"),
    ],
)
def test_what_is_refused(blind_params, changes, message):
    with pytest.raises(InputError, match=message):
        create(blind_params, **changes)
