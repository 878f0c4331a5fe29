"""Divergence is found in whatever leaf it is, and the message says where to go back to."""

import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pi0_jax.hosts import talk
from pi0_jax.training import checkpoint
from pi0_jax.training.finite import DivergedError, all_finite, check_finite, told_where_to_go_back
from pi0_jax.training.step import init_state


def state(**leaves):
    """A state of two leaves, with Adam's moments."""
    params = {"a": jnp.zeros((2, 3), jnp.bfloat16), "b": jnp.ones(3)}
    return init_state(params | leaves, optax.adam(0.1), ())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["a", "b"])
def test_one_number_anywhere(name, value):
    whole = state()
    assert all_finite(whole)
    check_finite(whole)
    spoilt = whole.params[name].at[(0,) * whole.params[name].ndim].set(value)
    broken = whole.replace(params=whole.params | {name: spoilt}, step=jnp.array(7))
    with pytest.raises(DivergedError, match="not finite after step 7"):
        check_finite(broken)


def test_the_optimizer_too():
    whole = state()
    moments = whole.opt_state[0]._replace(nu={"a": moment(whole, "a"), "b": jnp.full(3, jnp.inf)})
    assert not all_finite(whole.replace(opt_state=(moments, *whole.opt_state[1:])))


def moment(whole, name):
    return whole.opt_state[0].nu[name]


def test_large_numbers_are_no_divergence():
    assert all_finite(state(a=jnp.full((2, 3), 3e38, jnp.bfloat16), b=jnp.full(3, 3e38)))


def test_the_message_names_the_last_good_checkpoint(tmp_path, monkeypatch):
    with pytest.raises(DivergedError, match="no checkpoint yet"), told_where_to_go_back(tmp_path):
        raise DivergedError("loss is nan at step 3")
    checkpoint.save(tmp_path, 44, state(), {})
    with pytest.raises(DivergedError) as caught, told_where_to_go_back(tmp_path):
        raise DivergedError("loss is nan at step 48")
    said = str(caught.value)
    assert said.startswith("training diverged: loss is nan at step 48; go on from the last good")
    assert f"{tmp_path}/44, at a lower rate: add --resume --from 44 " in said
    assert "\n" not in said
    # Of several hosts, one tells the others.
    monkeypatch.setattr(talk, "first", lambda make: json.loads(json.dumps(make())))
    before = told_where_to_go_back(tmp_path / "nothing yet", tmp_path)
    with pytest.raises(DivergedError, match="--resume --from 44 "), before:
        raise DivergedError("loss is nan at step 48")
