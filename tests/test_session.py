"""A session: its own random numbers, and everything in hand from one call."""

import json

import jax
import pytest
from tiny import episode

from pi0_jax.env.suite import make_suite
from pi0_jax.errors import InputError
from pi0_jax.run.engines import PoolConfig
from pi0_jax.run.folder import RunFolder
from pi0_jax.run.session import (
    RunSettings,
    Session,
    SimulatedSettings,
    _digests,
    method_number,
    open_session,
)

SUITE = make_suite("scripted", {})


SETTINGS = SimulatedSettings(seed=3, pool=PoolConfig(workers=2, timeout_s=20.0))


def test_random_numbers_belong_to_seed_and_key():
    three, four = (Session(None, SUITE, None, seed, 8) for seed in (3, 4))
    assert three.rng(1, 2).random() == three.rng(1, 2).random()
    assert len({three.rng(1, 2).random(), three.rng(2, 1).random(), four.rng(1, 2).random()}) == 3
    assert three.first_state(5) == 30_000_005


def test_a_session_opens_and_ends(tmp_path, capsys):
    with open_session(tmp_path, False, SETTINGS, SUITE, {"checkpoint": "/p"}, {}) as session:
        assert (session.seed, session.pool.workers) == (3, 2)
        assert len(session.pool.map(SUITE.demonstrations([0]))) == 1
    assert session.pool.workers == 0
    stored = json.loads((tmp_path / "config.json").read_text())["config"]
    assert stored == {"checkpoint": "/p"}
    assert session.run.protocol["rows"] == 8
    assert session.run.protocol["suite"] == "scripted"
    assert session.run.protocol["digests"].keys() == {"config"}
    assert "scripted: 2 simulators, " in capsys.readouterr().err


def test_speed_is_told(tmp_path, scripted_pool, capsys):
    """30 steps and 2 episodes in 4 s."""
    session = Session(RunFolder(tmp_path, {}, resume=False), SUITE, scripted_pool, 0, 8)
    found = session.log_speed("rollouts", [episode(10, [0]), episode(20, [0])], 4.0)
    assert found == {"env_steps_per_s": 7.5, "episodes_per_min": 30.0}
    said = "rollouts: 2 episodes in 0:04, 8 env steps/s, 30 episodes/min, 2 simulators, osmesa"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RunSettings(seed=-1), "config.seed must be a"),
        (lambda: RunSettings(rows=0), "config.rows must be a"),
    ],
)
def test_an_impossible_setting(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_nothing_is_started_for_a_folder_that_is_taken(tmp_path):
    (tmp_path / "mine").touch()
    with (
        pytest.raises(InputError, match="is not empty"),
        open_session(tmp_path, False, SETTINGS, SUITE, {}, {}),
    ):
        pytest.fail("opened")


def test_every_method_draws_its_own_batches_and_noise():
    """The base policy has the plain streams; continued training must not draw the same again."""
    three = Session(None, SUITE, None, 3, 8)
    assert method_number("base") == 0
    assert three.rng(1, 5, 0).integers(10**9) == three.rng(1, 5).integers(10**9)
    names = ("base", "continued_sft", "ript")
    draws = {three.rng(1, 5, method_number(name)).integers(10**9) for name in names}
    keys = {tuple(jax.random.key_data(three.noise_key(name)).tolist()) for name in names}
    assert len(draws) == len(keys) == 3
    same = jax.random.key_data(three.noise_key("base")) == jax.random.key_data(jax.random.key(3))
    assert same.all()


def test_results_name_what_they_were_made_of():
    config = {"init_digest": "abc", "demonstrations_digest": "def", "seed": 1}
    found = _digests(config)
    assert found.keys() == {"init", "demonstrations", "config"}
    assert (found["init"], found["demonstrations"]) == ("abc", "def")
    assert found["config"] != _digests(config | {"seed": 2})["config"]
