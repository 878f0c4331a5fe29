"""Where the base of an evaluation comes from, and what is refused before anything is written."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny import policy_folder

from pi0_jax.apps import evaluate
from pi0_jax.apps.cli import Arguments
from pi0_jax.apps.config_file import load_config
from pi0_jax.apps.eval_reference import (
    check_reference_settings,
    find_base,
    read_base,
    with_base,
)
from pi0_jax.apps.settings import train_config, train_settings
from pi0_jax.apps.start import point_at
from pi0_jax.data.normalize import NormStats, Stats
from pi0_jax.errors import InputError
from pi0_jax.policy.folder import PolicyFolder, load_policy, save_policy
from pi0_jax.rollout.evaluate import EvalConfig


@pytest.fixture
def policy(params) -> PolicyFolder:
    return policy_folder(params)


@pytest.fixture
def base(blind_params) -> PolicyFolder:
    return policy_folder(jax.tree.map(lambda x: np.asarray(x) * 2, blind_params))


@pytest.fixture
def run(tmp_path, policy, base) -> Path:
    """A run folder as train.py leaves it."""
    save_policy(tmp_path / "run/base", base, {})
    save_policy(tmp_path / "run/policy", policy, {})
    return tmp_path / "run"


def of(reference: str, *guidance: float) -> EvalConfig:
    return EvalConfig(1, 0, guidance or (1.0, 2.0), reference=reference)


def test_the_run_s_base_is_found(tmp_path, run, base):
    policy = load_policy(run / "policy")
    assert find_base(policy, of("base")) == run / "base"
    assert find_base(policy, of("unconditional")) is find_base(policy, of("none", 1.0)) is None
    assert find_base(policy, of("other/folder")) == Path("other/folder")
    # The base itself has none to lead away from, and at guidance 1 it needs none.
    with pytest.raises(InputError, match="carries no reference"):
        find_base(load_policy(run / "base"), of("base"))
    assert find_base(load_policy(run / "base"), of("base", 1.0)) is None
    found = read_base(policy, run / "base").reference
    np.testing.assert_array_equal(found["state_proj"]["bias"], base.params["state_proj"]["bias"])
    assert read_base(policy, None) is policy


def test_a_run_from_a_checkpoint_names_its_base(tmp_path, run):
    (run / "base").rename(tmp_path / "given")
    policy = load_policy(run / "policy")
    with pytest.raises(InputError, match="carries no reference and is not the policy of a run"):
        find_base(policy, of("base"))
    point_at(run / "base.json", tmp_path / "given")
    assert find_base(policy, of("base")) == tmp_path / "given"
    (tmp_path / "given/manifest.json").write_text("{}")
    with pytest.raises(InputError, match="given is gone or is another checkpoint than the one"):
        find_base(policy, of("base"))
    (run / "base.json").write_text("[]")
    with pytest.raises(InputError, match=r"base.json: is damaged"):
        find_base(policy, of("base"))


def test_a_policy_s_own_reference_comes_first(run, policy, base):
    save_policy(run.parent / "moved", with_base(policy, base), {})
    found = load_policy(run.parent / "moved")
    assert find_base(found, of("base")) is None
    assert read_base(found, None).reference is found.reference


def test_the_base_acts_in_the_policy_s_branch_mode(policy, params):
    """It was given that mode when RL began, which needs an embedding that was never trained."""
    told = dataclasses.replace(
        policy, spec=dataclasses.replace(policy.spec, branch_mode="text_indicator")
    )
    untrained = params | {"cond_embed": np.zeros_like(params["cond_embed"])}
    base = dataclasses.replace(policy, params=untrained)
    assert with_base(dataclasses.replace(told, params=untrained), base).reference is not None
    with pytest.raises(InputError, match="was trained with 'embedding'"):
        with_base(told, policy)


def settings(**changes):
    config = load_config("demo")
    config.eval.reference = changes.get("reference", "unconditional")
    config.keep_reference = changes.get("keep", False)
    config.rl.iterations = changes.get("iterations", 1)
    return train_settings(config)


def test_what_a_training_can_have():
    check_reference_settings(settings(reference="base", keep=True))
    check_reference_settings(settings())
    with pytest.raises(InputError, match="in a training it is one of 'unconditional', 'base', 'no"):
        check_reference_settings(settings(reference="runs/other/policy"))
    with pytest.raises(InputError, match=r"keep_reference is True, but config.rl.iterations is 0"):
        check_reference_settings(settings(keep=True, iterations=0))
    with pytest.raises(InputError, match=r"eval.reference is 'none'"):
        settings(reference="none")


def evaluation(folder: Path, out: Path, reference: str) -> Arguments:
    """pi0-eval of a policy folder on the scripted task."""
    config = train_config("scripted")
    config.pool.update({"workers": 1, "timeout_s": 20.0})
    config.task.update({"max_steps": 8, "image_size": 16, "tolerance": 0.5})
    config.eval.update({"episodes": 2, "first_seed": 0, "guidance": (1.0, 2.0)})
    config.eval.update({"num_flow_steps": 1, "videos": 0, "reference": reference})
    return Arguments(config, out, resume=False, checkpoint=folder)


def test_pi0_eval_says_what_is_wrong_before_it_writes(tmp_path, run, base):
    out = tmp_path / "out"
    save_policy(tmp_path / "lonely", base, {})
    moved = NormStats(base.stats.state, Stats(base.stats.actions.mean + 1, base.stats.actions.std))
    save_policy(tmp_path / "strange", dataclasses.replace(base, stats=moved), {})
    for folder, reference, message in (
        (run / "policy", "none", "without a reference the only scale is 1"),
        (tmp_path / "lonely", "base", "lonely carries no reference and is not the policy of a run"),
        (run / "policy", str(tmp_path / "nowhere"), "nowhere/config.json: no such file"),
        (run / "policy", str(tmp_path / "strange"), "strange does not fit the policy: statistics"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            evaluate.main(evaluation(folder, out, reference))
        assert "\n" not in str(caught.value)
        assert not out.exists()


def test_pi0_eval_sweeps_scales_from_the_run_s_base(tmp_path, run, capsys):
    evaluate.main(evaluation(run / "policy", tmp_path / "out", "base"))
    said = capsys.readouterr().err
    assert "policy: guidance from a base" in said
    assert "policy, guidance 2 from base against 1 on the same states: won " in said
    stored = json.loads((tmp_path / "out/config.json").read_text())["config"]
    assert stored["reference"] == str((run / "base").resolve())
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["protocol"]["evaluation"]["reference"] == "base"
    assert [row["guidance"] for row in results["rows"]] == [1.0, 2.0]
