"""The NFT loss: by hand on a velocity that is one number, and against signed weights."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import KEY, SAMPLES, gradient, windows
from tiny import MODEL

from pi0_jax.model import lora
from pi0_jax.rl.objectives.filtered_bc import FilteredBc
from pi0_jax.rl.objectives.nft import Nft
from pi0_jax.testing import batch
from pi0_jax.training.micro_batches import accumulated_gradient

PART = ("cond_embed", "action_out_proj")
NFT = Nft(negative_weight=0.25)
# Two successes, two failures.
OUTCOMES = np.array([1, 0, 1, 0], np.float32)


class Constant:
    """A network whose velocity is the parameter w; it counts its passes over a prefix."""

    prefixes = 0

    def encode_prefix(self, params, obs):
        self.prefixes += 1

    def velocity(self, params, cache, state, x_t, time, ids):
        return jnp.broadcast_to(params["w"], x_t.shape)


def by_hand(params, v: float, weight: list[float]):
    """Value and gradient for v_old = 2 and u = noise - actions = 1, in one real step a window."""
    seen = batch(2).replace(weight=np.array(weight, np.float32))
    seen = seen.replace(action_mask=np.arange(4) < np.ones((2, 1)))
    drawn = jnp.full((2, 1, 4, 8), 4.0), jnp.full((2, 1, 4, 8), 5.0), jnp.full((2, 1), 0.5)
    loss = NFT.loss(Constant(), 1, "embedding").evaluate  # pyright: ignore[reportArgumentType]

    def of(w):
        return loss(params | {"w": w, "acting": {"w": jnp.array(2.0)}}, seen, drawn)

    return jax.value_and_grad(of, has_aux=True)(jnp.array(v))


def test_successes_pull_and_failures_push(params):
    """At v = 2.5: (2.5 - 1)^2 = 2.25 for a success; (2 * 2 - 2.5 - 1)^2 = 0.25 for a failure."""
    (value, metrics), slope = by_hand(params, 2.5, [1, 0])
    assert float(metrics["loss_positive"]) == 2.25 / 2
    assert float(metrics["loss_negative"]) == 0.25 / 2
    assert float(value) == (2.25 + 0.25 * 0.25) / 2
    # d/dv: 2 (v - u) for a success, -2 (2 v_old - v - u) for a failure.
    assert float(slope) == (2 * 1.5 - 0.25 * 2 * 0.5) / 2
    assert float(metrics["drift"]) == 0.5 / 2


def test_failures_alone_push_no_further_than_the_mirrored_target(params):
    """The minimum is v = 2 v_old - u = 3, where signed weights would go on for ever."""
    slopes = [float(by_hand(params, v, [0, 0])[1]) for v in (2.0, 3.0, 4.0)]
    assert slopes == [-0.25 * 2, 0.0, 0.25 * 2]


def outcomes():
    return windows().replace(weight=OUTCOMES)


def acting(params, names=PART, change=0.0):
    """The parameters with copies of some of their branches, all moved by a number."""
    moved = jax.tree.map(lambda leaf: leaf + change, {name: params[name] for name in names})
    return params | {"acting": moved}


def test_where_nothing_has_changed_yet_the_gradient_is_that_of_signed_weights(params):
    """R - lambda (1 - R): 1 for a success, -0.25 for a failure."""
    (_, metrics), grads = gradient(NFT, acting(params), outcomes(), trained=PART)
    signed = windows().replace(weight=np.array([1, -0.25, 1, -0.25], np.float32))
    _, whole = gradient(FilteredBc(), params, signed)  # a program of test_objectives
    expected = {name: whole[name] for name in PART}
    chex.assert_trees_all_close(grads, expected, rtol=1e-3, atol=1e-5)
    assert float(metrics["drift"]) == 0.0


def test_micro_batches_give_the_gradient_of_the_whole(params):
    given = acting(params, change=0.1)
    (whole, metrics), grads = gradient(NFT, given, outcomes(), trained=PART)
    # One branch of the parameters: gradients are cut and added alike, whatever they are of.
    part = {"action_out_proj": params["action_out_proj"]}
    rest = {name: leaf for name, leaf in given.items() if name not in part}
    in_two = jax.jit(accumulated_gradient(NFT.loss(MODEL, SAMPLES, "embedding"), 2))
    (parts, _), summed = in_two(part, rest, outcomes(), KEY)
    assert float(parts) == pytest.approx(float(whole), rel=1e-5)
    expected = {name: grads[name] for name in part}
    chex.assert_trees_all_close(summed, expected, rtol=1e-3, atol=2e-5)
    assert float(metrics["drift"]) > 0.01


@pytest.mark.parametrize(
    ("path", "passes"),
    [
        ("action_in_proj/bias", 1),
        ("PaliGemma/llm/layers/mlp_1/linear", 1),
        ("PaliGemma/llm/layers/mlp/linear", 2),
        ("PaliGemma/img/head/kernel", 2),
        ("lora/layers/attn/q_einsum_1/w/a", 1),
        ("lora/layers/attn/q_einsum/w/a", 2),
    ],
)
def test_a_prefix_that_is_not_trained_is_encoded_once(params, path, passes):
    network, *names = Constant(), *path.split("/")
    given = jax.eval_shape(lora.with_adapters, params, KEY) | {"w": jnp.array(2.0)}
    leaf = given
    for name in names:
        leaf = leaf[name]
    copied = given | {"acting": {path: leaf}}
    evaluate = NFT.loss(network, 1, "embedding").evaluate  # pyright: ignore[reportArgumentType]
    drawn = (jnp.zeros((2, 1, 4, 8)),) * 2 + (jnp.zeros((2, 1)),)
    jax.eval_shape(evaluate, copied, batch(2), drawn)  # traced only: passes are counted
    assert network.prefixes == passes


def test_what_it_says_of_itself():
    assert str(Nft()) == "nft, negative weight 0.2, drift at most 0.3"
    assert Nft(max_drift=0.5).bounds == {"drift": 0.5}
