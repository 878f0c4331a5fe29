"""The training loop: resumed is as unbroken, and it stops where numbers end."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import pytest

from pi0_jax.errors import InputError
from pi0_jax.testing import batch
from pi0_jax.training.fit import create_training, final_params, fit
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.step import OWN, SampledLoss

OPTIMIZER = OptimizerConfig(0.1, warmup_steps=2)
KEY = jax.random.key(3)


def loss(params, batch, rng):
    target = jnp.mean(batch.actions, (0, 1)) + jax.random.normal(rng, (8,))
    return jnp.mean((params["w"] - target) ** 2), {"target": target[0]}


def start(config: OptimizerConfig = OPTIMIZER, steps: int = 6):
    return create_training({"w": jnp.zeros(8), "b": jnp.zeros(3)}, loss, config, steps)


def batch_of(step: int):
    return batch(2, seed=step)


def quiet(step, values):
    """A log that nobody reads."""


def test_a_resumed_fit_equals_an_unbroken_one_bit_for_bit():
    state, update = start()
    unbroken = fit(state, update, batch_of, 6, KEY, 2, quiet)
    state, update = start()
    half = fit(state, update, batch_of, 3, KEY, 2, quiet)
    saved = jax.device_get(half)
    _, again = start()  # another process compiles its own update
    resumed = fit(jax.tree.map(jnp.asarray, saved), again, batch_of, 6, KEY, 2, quiet)
    chex.assert_trees_all_equal(resumed, unbroken)
    assert int(resumed.step) == 6
    assert float(jnp.abs(resumed.params["w"]).min()) > 0


def test_what_is_logged_and_when():
    lines = []
    state, update = start()
    fit(state, update, batch_of, 5, KEY, 2, lambda step, values: lines.append((step, values)))
    assert [step for step, _ in lines] == [2, 4, 5]
    assert set(lines[0][1]) == {"loss", "grad_norm", "target"}
    assert all(type(value) is float for _, values in lines for value in values.values())


def test_updates_end_where_it_is_enough():
    """Looked at where metrics are read: after updates 2 and 4."""
    seen = []
    state, update = start()
    state = fit(
        state, update, batch_of, 6, KEY, 2, lambda step, values: seen.append(step),
        enough=lambda values: len(seen) == 2,
    )  # fmt: skip
    assert (int(state.step), seen) == (4, [2, 4])


def test_a_loss_that_reads_what_acted_has_a_copy_of_what_is_trained():
    plain = SampledLoss(lambda rng, batch: rng, loss)
    reading = dataclasses.replace(plain, reads_acting=True)
    config = dataclasses.replace(OPTIMIZER, rules=(("b", 0.0),))
    params = {"w": jnp.zeros(8), "b": jnp.zeros(3)}
    states = [create_training(params, one, config, 6)[0] for one in (plain, reading)]
    assert states[0].acting is None
    assert states[1].acting.keys() == {"w"}
    # A policy is made of the parameters alone.
    chex.assert_trees_all_equal(*(final_params(state) for state in states))


def test_a_loss_may_have_parameters_of_its_own():
    """They are trained, their paths are known to rules, and no policy has them."""

    def both(params, batch, rng):
        return jnp.sum((params["w"] - params[OWN]["scale"]) ** 2), {}

    own = SampledLoss(lambda rng, batch: rng, both, own={"scale": jnp.ones(())})
    config = dataclasses.replace(OPTIMIZER, rules=(("loss/scale", 0.5),), ema_decay=0.5)
    state, update = create_training({"w": jnp.zeros(8)}, own, config, 6)
    state = fit(state, update, batch_of, 4, KEY, 2, quiet)
    assert float(state.params[OWN]["scale"]) < 1 - 1e-3 and state.ema.keys() == {"w", "loss/scale"}
    assert final_params(state).keys() == {"w"}
    with pytest.raises(InputError, match="'loss/scale' matches no parameter"):
        start(config)


def test_nothing_left_to_do():
    state, update = start()
    assert fit(state, update, batch_of, 0, KEY, 1, quiet) is state


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
def test_a_loss_that_is_no_number_ends_training(value):
    def broken(params, batch, rng):
        return jnp.where(batch.actions[0, 0, 0] > 100, value, jnp.sum(params["w"])), {}

    def poisoned(step):
        windows = batch(2)
        return windows.replace(actions=windows.actions + (1000 if step == 3 else 0))

    state, update = create_training({"w": jnp.zeros(8)}, broken, OPTIMIZER, 9)
    logged = []
    with pytest.raises(InputError, match=r"loss is (nan|inf) at step 4"):
        fit(state, update, poisoned, 9, KEY, 2, lambda step, _: logged.append(step))
    assert logged == [2]


def test_rules_are_checked_before_training():
    with pytest.raises(InputError, match="'v' matches no parameter"):
        start(OptimizerConfig(0.1, 0, rules=(("v", 0.0),)))
