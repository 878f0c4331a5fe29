"""A training is refused by its memory before anything of it is made, and is made as it was."""

import chex
import jax
import pytest
from tiny import CONFIG

from pi0_jax.errors import InputError
from pi0_jax.testing import batch
from pi0_jax.training import setup
from pi0_jax.training.fit import create_training
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.memory import abstract_batch
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.setup import set_up_training
from pi0_jax.training.supervised import flow_matching_loss

# One layer alone is trained: the rest would tell nothing new, and be most of the time to compile.
OPTIMIZER = OptimizerConfig(1e-3, 1, rules=(("action_out_proj/.*", 1.0), (".*", 0.0)))


def made(params, hardware, built=None):
    """A training of two windows; the networks that losses were asked for go to `built`."""

    def loss(network):
        if built is not None:
            built.append(network.remat)
        return flow_matching_loss(network, 1)

    windows = abstract_batch(CONFIG, 2, 2)
    return set_up_training(params, CONFIG, loss, OPTIMIZER, 4, windows, hardware)


def test_the_update_is_that_of_create_training(params):
    state, update, budget = made(params, Hardware())
    loss = flow_matching_loss(Hardware().network(CONFIG), 1)
    plain, step = create_training(params, loss, OPTIMIZER, 4)
    rng = jax.random.key(0)
    found, expected = state, plain
    for _ in range(2):
        found, expected = update(found, batch(2), rng)[0], step(expected, batch(2), rng)[0]
    chex.assert_trees_all_equal(found.params, expected.params)
    trained = params["action_out_proj"]
    assert budget.trained == sum(leaf.nbytes for leaf in jax.tree.leaves(trained))
    moved = found.params["action_out_proj"]["kernel"] - trained["kernel"]
    assert (abs(moved) > 0).all()  # the second update: the first has rate 0


def test_loss_and_network_are_built_once(params):
    built = []
    made(params, Hardware(), built)
    assert built == ["none"]
    built.clear()
    made(params, Hardware(remat="full"), built)
    assert sorted(built) == ["full", "none"]  # what one layer needs at a time is counted too


def test_what_cannot_fit_is_refused_before_it_is_made(params, monkeypatch):
    monkeypatch.setattr(setup, "create_training", lambda *_: pytest.fail("made"))
    with pytest.raises(InputError, match=r"but a device has 0\.00 GB: "):
        made(params, Hardware(memory_gb=1e-6))
