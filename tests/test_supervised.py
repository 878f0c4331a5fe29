"""Plain flow matching against its formula with the same draws."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import CONFIG, MODEL

from pi0_jax.data.augment import augment
from pi0_jax.errors import InputError
from pi0_jax.model.pi0 import scale_images
from pi0_jax.testing import batch
from pi0_jax.training.micro_batches import accumulated_gradient
from pi0_jax.training.supervised import (
    SupervisedConfig,
    augmented,
    flow_matching_loss,
    sample_noise_and_time,
)

KEY = jax.random.key(5)


def test_draws():
    actions = jnp.asarray(batch(3).actions)
    rows, noise, time = sample_noise_and_time(KEY, actions, 4)
    chex.assert_shape([rows, noise], (3, 4, CONFIG.action_horizon, CONFIG.action_dim))
    chex.assert_shape(time, (3, 4))
    np.testing.assert_array_equal(rows, np.repeat(actions[:, None], 4, 1))
    assert len(np.unique(time)) == 12
    assert len(np.unique(noise)) == noise.size
    assert abs(float(noise.mean())) < 0.15
    assert float(noise.std()) == pytest.approx(1, abs=0.1)
    again = sample_noise_and_time(KEY, actions, 4)
    chex.assert_trees_all_equal(again, (rows, noise, time))


SAMPLES = 2
LOSS = flow_matching_loss(MODEL, SAMPLES)
# Loss and gradient of any three windows: the tests below share its one compilation.
value_and_grad = jax.jit(jax.value_and_grad(lambda p, windows: LOSS(p, windows, KEY)[0]))


def test_the_loss_is_its_formula(params):
    """One prefix and one suffix pass for each draw, and a loop over real action steps."""
    windows = batch(3)
    found, _ = value_and_grad(params, windows)
    actions, noise, time = sample_noise_and_time(KEY, jnp.asarray(windows.actions), SAMPLES)

    @jax.jit
    def velocity(x_t, time):
        cache = MODEL.encode_prefix(params, windows.obs)
        return MODEL.velocity(params, cache, windows.obs.state, x_t, time)

    errors = []
    for r in range(SAMPLES):
        t = time[:, r, None, None]
        x_t = t * noise[:, r] + (1 - t) * actions[:, r]
        v = velocity(x_t[:, None], time[:, r : r + 1])[:, 0]
        squared = np.square(v - (noise[:, r] - actions[:, r])).mean(-1)
        errors += list(squared[windows.action_mask])
    assert float(found) == pytest.approx(np.mean(errors), rel=1e-5)


def test_an_augmented_loss_needs_what_the_loss_needs():
    needs = {"reads_acting": True, "apart": ("w", 1), "own": {"scale": np.ones(())}}
    found = augmented(dataclasses.replace(LOSS, **needs), ("base",))
    assert {name: getattr(found, name) for name in needs} == needs


def test_an_augmented_loss_is_that_of_changed_pictures(params):
    """The loss draws as it would, the pictures change, and a batch may still be cut."""
    windows, cameras = batch(4), ("agentview", "robot0_eye_in_hand")
    loss = augmented(LOSS, cameras)
    drawn = jax.jit(loss.sample)(KEY, windows)
    plain_draw = jax.jit(LOSS.sample)(jax.random.split(KEY)[0], windows)
    chex.assert_trees_all_equal(drawn[0], plain_draw)
    changed = jax.jit(augment, static_argnums=2)(windows.obs.images, drawn[1], (False, True))
    scaled = scale_images(windows.obs.images)
    evaluate = jax.jit(LOSS.evaluate)
    expected, plain = (
        evaluate(params, windows.replace(obs=windows.obs.replace(images=images)), drawn[0])[0]
        for images in (changed, scaled)
    )
    # The pictures have no gradient, so a single leaf tells whether the batch may be cut.
    trained = {"state_proj": params["state_proj"]}
    frozen = {name: leaf for name, leaf in params.items() if name not in trained}
    parts, _ = jax.jit(accumulated_gradient(loss, 2))(trained, frozen, windows, KEY)
    assert float(parts[0]) == pytest.approx(float(expected), rel=1e-5)
    assert abs(float(expected) - float(plain)) > 1e-4


def test_what_is_behind_the_end_does_not_count(params):
    """But for one thing: masked actions stand beside real ones, and are seen by them."""
    windows = batch(3)
    nothing = windows.replace(action_mask=np.zeros_like(windows.action_mask))
    for leaf in jax.tree.leaves(value_and_grad(params, nothing)):
        np.testing.assert_array_equal(leaf, 0)


def test_a_trained_condition_is_the_positive_one_and_stays(params):
    """As the policy acts: the row is added to every action token, as a bias is."""
    rows = np.stack([np.full(params["cond_embed"].shape[1], x, np.float32) for x in (5.0, 0.3)])
    trained, windows = params | {"cond_embed": rows}, batch(3)
    loss = flow_matching_loss(MODEL, SAMPLES, positive=True)
    found = jax.jit(jax.value_and_grad(lambda p: loss(p, windows, KEY)[0]))
    value, grads = found(trained)
    np.testing.assert_array_equal(grads["cond_embed"], 0)
    bias = params["action_in_proj"]["bias"] + rows[1]
    folded = params | {"action_in_proj": params["action_in_proj"] | {"bias": bias}}
    assert float(value) == pytest.approx(float(value_and_grad(folded, windows)[0]), rel=1e-5)
    assert abs(float(value) - float(value_and_grad(params, windows)[0])) > 1e-4


def test_the_condition_is_not_trained(params):
    _, grads = value_and_grad(params, batch(3))
    np.testing.assert_array_equal(grads["cond_embed"], 0)
    assert np.abs(grads["action_in_proj"]["kernel"]).max() > 0
    assert np.abs(grads["PaliGemma"]["img"]["embedding"]["kernel"]).max() > 0


@pytest.mark.parametrize(
    ("field", "value"), [("steps", -1), ("batch_size", 0), ("time_samples", 0), ("save_every", 0)]
)
def test_impossible_settings(field, value):
    good = {"steps": 0, "batch_size": 1, "time_samples": 1, "save_every": 1}
    SupervisedConfig(**good)
    with pytest.raises(InputError, match=rf"sft\.{field} must be a"):
        SupervisedConfig(**good | {field: value})
