"""Who is let in by default, and which programs are compiled."""

import dataclasses

import pytest
from servers import PANDA

from pi0_jax.errors import InputError
from pi0_jax.serve.layouts import layouts_of
from pi0_jax.serve.request import Rules, Sampling
from pi0_jax.serve.settings import Limits, Listening, is_loopback
from pi0_jax.serve.warm_up import scales_to_compile


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_key(host):
    assert is_loopback(host)
    assert Listening(host).api_key == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "robot.lab", ""])
def test_beyond_it_a_key_is_needed_unless_told_otherwise(host):
    with pytest.raises(InputError, match="can be reached from other machines"):
        Listening(host)
    assert Listening(host, api_key="k" * 16).host == host
    assert Listening(host, open_to_all=True).host == host


def test_a_key_is_not_shown():
    assert "kkkk" not in repr(Listening("0.0.0.0", api_key="k" * 16))


def test_limits_have_a_least():
    with pytest.raises(InputError, match=r"limits\.queue must be a whole number in"):
        Limits(queue=0)


@pytest.mark.parametrize(
    ("default", "limits", "scales"),
    [
        (1.0, (1.0, 1.0), (1.0,)),
        (1.5, (1.5, 1.5), (1.5,)),
        (1.0, (0.0, 3.0), (0.0, 1.0, 3.0)),
        (2.0, (1.0, 3.0), (1.0, 2.0)),
        (0.0, (0.0, 1.0), (0.0, 1.0, 0.5)),
        (0.0, (0.0, 0.0), (0.0,)),
    ],
)
def test_one_scale_per_program(default, limits, scales):
    rules = Rules(PANDA, layouts_of(PANDA), Sampling(default, 10), limits, (10, 10), 16)
    assert scales_to_compile(rules) == scales
    assert scales_to_compile(dataclasses.replace(rules, num_flow_steps=(1, 20))) == scales
