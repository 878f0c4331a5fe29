"""The update on a problem of three numbers: what is frozen stays, what is trained compiles once."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi0_jax.errors import InputError
from pi0_jax.testing import batch
from pi0_jax.training.optimizer import multiplier
from pi0_jax.training.step import (
    acting_params,
    init_state,
    make_step,
    make_update,
    merge,
    norms,
    split,
    whole_gradient,
)

RULES = (("tower/.*", 0.0),)
BATCH = batch(2)


def parameters():
    return {
        "tower": {"w": jnp.array([1.0, 2.0]), "b": jnp.array([0.5])},
        "head": {"w": jnp.array([3.0, -1.0])},
    }


def loss(params, batch, rng):
    """Squared distance of the head from the tower, shaken by the key."""
    noise = jax.random.normal(rng, (2,))
    distance = params["head"]["w"] - params["tower"]["w"] * params["tower"]["b"] - noise
    return jnp.sum(distance**2), {"noise": noise[0]}


def test_frozen_leaves_stay_bit_for_bit_and_have_no_optimizer_state():
    optimizer = optax.adam(0.1)
    state, update = init_state(parameters(), optimizer, RULES), make_update(loss, optimizer, RULES)
    # Adam keeps a step count and two moments, of head/w alone.
    assert [leaf.shape for leaf in jax.tree.leaves(state.opt_state)] == [(), (2,), (2,)]
    for _ in range(3):
        state, metrics = update(state, BATCH, jax.random.key(0))
    chex.assert_trees_all_equal(state.params["tower"], parameters()["tower"])
    assert (np.abs(state.params["head"]["w"] - parameters()["head"]["w"]) > 0.01).all()
    assert int(state.step) == 3
    assert set(metrics) == {"loss", "grad_norm", "noise"}


def test_one_step_of_gradient_descent_by_hand():
    def plain(params, batch, rng):
        return jnp.sum((params["head"]["w"] - params["tower"]["w"]) ** 2), {}

    optimizer = optax.sgd(0.25)
    state, update = init_state(parameters(), optimizer, RULES), make_update(plain, optimizer, RULES)
    state, metrics = update(state, BATCH, jax.random.key(0))
    # head - tower = (2, -3): loss 13, gradient (4, -6), step (-1, 1.5).
    assert state.params["head"]["w"].tolist() == [2.0, 0.5]
    assert float(metrics["loss"]) == 13.0
    assert float(metrics["grad_norm"]) == pytest.approx(np.sqrt(52))


def test_the_header_has_a_norm_of_its_own():
    grads = {"cond_embed": jnp.array([3.0, 4.0]), "a/w": jnp.array([12.0]), "b": jnp.array([0.0])}
    found = {name: float(value) for name, value in norms(grads).items()}
    assert found == {"grad_norm": 13.0, "grad_norm/cond_embed": 5.0, "grad_norm/model": 12.0}
    # Alone, or frozen, it says nothing that "grad_norm" does not.
    assert set(norms({"cond_embed": jnp.ones(2)})) == {"grad_norm"}
    assert set(norms({"a/w": jnp.ones(2)})) == {"grad_norm"}


def test_many_steps_one_trace():
    chex.clear_trace_counter()
    traced = chex.assert_max_traces(loss, n=1)
    optimizer = optax.sgd(0.1)
    state, update = init_state(parameters(), optimizer, ()), make_update(traced, optimizer, ())
    for step in range(4):
        state, _ = update(state, batch(2, seed=step), jax.random.key(step))
    with pytest.raises(AssertionError, match="traced"):
        update(state, batch(3), jax.random.key(0))  # another shape is another program


def test_the_state_is_donated_and_nothing_moves_unasked():
    optimizer = optax.adam(0.1)
    update = make_update(loss, optimizer, RULES)
    state = init_state(parameters(), optimizer, RULES)
    placed, key = jax.device_put((BATCH, jax.random.key(0)))
    with jax.transfer_guard("disallow"):
        after, _ = update(state, placed, key)
        update(after, placed, key)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state, after)))


def test_the_moving_average_by_hand():
    """Decay 0.75 and gradient steps of 1: averages 3, 2.75, 2.3125 of 3, 2, 1."""
    gradient = whole_gradient(lambda params, batch, rng: (params["w"], {}))
    optimizer = optax.sgd(1.0)
    state = init_state(
        {"w": jnp.array(3.0), "b": jnp.array(7.0)}, optimizer, (("b", 0.0),), ema=True
    )
    step = jax.jit(make_step(gradient, optimizer, (("b", 0.0),), ema_decay=0.75))
    seen = [float(state.averaged()["w"])]
    for _ in range(2):
        state, _ = step(state, BATCH, jax.random.key(0))
        seen.append(float(state.averaged()["w"]))
    assert seen == [3.0, 2.75, 2.3125]
    assert float(state.params["w"]) == 1.0
    assert float(state.averaged()["b"]) == 7.0


def test_the_acting_parameters_stay_where_they_acted():
    """Steps of 1 from w = 3; b is frozen, so it acts as it is and has no copy."""

    def distance(params, batch, rng):
        old = acting_params(params)
        return params["w"], {"moved": old["w"] - params["w"], "b": old["b"]}

    optimizer = optax.sgd(1.0)
    rules, start = (("b", 0.0),), {"w": jnp.array(3.0), "b": jnp.array(7.0)}
    state = init_state(start, optimizer, rules, ema=True, acting=True)
    assert state.acting.keys() == {"w"}
    step = jax.jit(make_step(whole_gradient(distance), optimizer, rules, 0.75), donate_argnums=0)
    seen = []
    for refresh in (False, False, True, False):
        state = state.with_acting(averaged=False) if refresh else state
        state, metrics = step(state, BATCH, jax.random.key(0))
        seen.append(float(metrics["moved"]))
    # w acts at 3 in the first three measurements but the third, where it acts at 1.
    assert seen == [0.0, 1.0, 0.0, 1.0]
    assert float(metrics["b"]) == 7.0
    assert float(state.acting["w"]) == 1.0
    # Averages 3, 2.75, 2.3125, 1.734375, 1.05078125.
    assert float(state.with_acting(averaged=True).acting["w"]) == 1.05078125
    assert state.params.keys() == {"w", "b"}


def test_a_state_without_acting_parameters_stays_without():
    state = init_state(parameters(), optax.sgd(1.0), RULES)
    assert state.with_acting(averaged=False) is state
    assert state.acting_leaves() == {}


def test_acting_parameters_lie_over_the_newest_ones():
    params = parameters() | {"acting": {"head": {"w": 5}}}
    chex.assert_trees_all_equal(acting_params(params), parameters() | {"head": {"w": 5}})


def test_a_loss_that_reads_acting_parameters_says_that_there_are_none():
    with pytest.raises(InputError, match=r"params\['acting'\] is missing: make the state with"):
        acting_params(parameters())


def test_frozen_leaves_may_be_held_in_bfloat16():
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), parameters())
    # Also where the checkpoint is in bfloat16 and nobody asks for it: frozen leaves stay.
    for dtype in ("bfloat16", None):
        state = init_state(half, optax.adam(0.1), RULES, frozen_dtype=dtype)
        assert state.params["head"]["w"].dtype == jnp.float32
        assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(state.params["tower"]))
    state, _ = make_update(loss, optax.adam(0.1), RULES)(state, BATCH, jax.random.key(0))
    assert state.params["head"]["w"].dtype == jnp.float32


def test_small_updates_of_a_bfloat16_checkpoint_are_not_lost():
    """100 steps of 1e-4 at 1 are 0.01; in bfloat16, whose next number is 1.0078, they are 0."""
    state = init_state({"w": jnp.ones(1, jnp.bfloat16)}, optax.sgd(1e-4), ())
    update = make_update(lambda p, b, r: (p["w"].sum(), {}), optax.sgd(1e-4), ())
    for _ in range(100):
        state, _ = update(state, BATCH, jax.random.key(0))
    assert float(state.params["w"][0]) == pytest.approx(0.99, abs=1e-4)


def test_draws_depend_on_the_step_alone():
    """A resumed run draws what an unbroken one would have drawn."""
    optimizer = optax.sgd(0.0)
    update = make_update(loss, optimizer, ())
    key = jax.random.key(7)
    state, seen = init_state(parameters(), optimizer, ()), []
    for _ in range(3):
        state, metrics = update(state, BATCH, key)
        seen.append(float(metrics["noise"]))
    assert len(set(seen)) == 3
    resumed = init_state(parameters(), optimizer, ()).replace(step=jnp.array(2, jnp.int32))
    assert float(update(resumed, BATCH, key)[1]["noise"]) == seen[2]


def test_the_given_parameters_outlive_the_donated_state():
    params = parameters()
    optimizer = optax.sgd(0.1)
    state = init_state(params, optimizer, ())
    make_update(loss, optimizer, ())(state, BATCH, jax.random.key(0))
    assert params["head"]["w"].tolist() == [3.0, -1.0]


TREES = st.recursive(
    st.integers(0, 9),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3),
    max_leaves=8,
).filter(lambda tree: isinstance(tree, dict))


@given(TREES, st.lists(st.tuples(st.sampled_from(["a", "a/.*", ".*b", ".*c/a", "b.*"]),
                                 st.sampled_from([0.0, 1.0, 2.0])), max_size=3))  # fmt: skip
def test_merge_undoes_split(tree, rules):
    trained, frozen = split(tree, tuple(rules))
    assert merge(trained, frozen) == tree
    assert not trained.keys() & frozen.keys()
    assert all(multiplier(path, tuple(rules)) for path in trained)
    assert not any(multiplier(path, tuple(rules)) for path in frozen)
