"""RUN/start: when the given checkpoint is kept there, and when it is used."""

import dataclasses

import pytest
from tiny import policy_folder

from pi0_jax.apps.config_file import load_config
from pi0_jax.apps.own_start import kept_start, with_own_start
from pi0_jax.apps.settings import train_settings
from pi0_jax.errors import InputError
from pi0_jax.policy.folder import load_policy, save_policy
from pi0_jax.run.folder import RunFolder
from pi0_jax.training.optimizer import OptimizerConfig

FULL, EXPERT = (OptimizerConfig(1e-3, 1, preset=name) for name in ("full", "expert_only"))


@pytest.fixture
def start(tmp_path, blind_params):
    save_policy(tmp_path / "given", policy_folder(blind_params), {})
    return load_policy(tmp_path / "given")


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run", {}, resume=False)


def test_it_is_kept_where_a_training_leaves_some_of_it_frozen(start, run, capsys):
    own = run.path / "start"
    assert kept_start(run, start, [FULL, FULL]) is start
    fresh = dataclasses.replace(start, path=None)
    assert kept_start(run, fresh, [EXPERT]) is fresh
    assert not own.exists()
    assert kept_start(run, start, [FULL, EXPERT]).path == own
    load_policy(own)
    assert "start: linked" in capsys.readouterr().err
    # Resumed: from the given folder, and from its own.
    assert kept_start(run, start, [EXPERT]).path == own
    assert kept_start(run, load_policy(own), [EXPERT]).path == own
    assert f"is gone; {own} is used" in capsys.readouterr().err


def test_another_one_is_refused(tmp_path, start, run, params):
    kept_start(run, start, [EXPERT])
    save_policy(tmp_path / "other", policy_folder(params), {})
    with pytest.raises(InputError, match="is another checkpoint than the one that this run"):
        kept_start(run, load_policy(tmp_path / "other"), [EXPERT])


def test_it_stands_in_for_a_folder_that_is_gone(tmp_path):
    config = load_config("demo")
    config.init.checkpoint = str(tmp_path / "given")
    settings, run = train_settings(config), tmp_path / "run"
    assert with_own_start(settings, run) is settings  # a new run: the check of the start says so
    (run / "start").mkdir(parents=True)
    assert with_own_start(settings, run).init.checkpoint == str(run / "start")
    (tmp_path / "given").mkdir()
    assert with_own_start(settings, run) is settings
