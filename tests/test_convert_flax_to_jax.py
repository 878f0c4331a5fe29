"""Policy folder -> openpi's Orbax checkpoint: read by Orbax itself, and back, bit by bit."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from checkpoints import make_policy

from pi0_jax.convert.commands import flax_to_jax, jax_to_flax, verify
from pi0_jax.convert.commands.command import status
from pi0_jax.convert.compare.compare_networks import random_inputs
from pi0_jax.convert.sources.orbax_source import OrbaxSource
from pi0_jax.convert.sources.source import leaf_shapes, load_params
from pi0_jax.model.pi0 import POSITIVE, Pi0
from pi0_jax.policy.folder import PolicyFolder, load_policy, save_policy


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[PolicyFolder, Path]:
    """A policy whose condition was trained, and its export."""
    folder = tmp_path_factory.mktemp("trained")
    policy = make_policy(folder / "start", asset_id="org/robot")
    condition = np.stack([np.ones(8), np.arange(8)]).astype(np.float32)
    policy = dataclasses.replace(policy, params=policy.params | {"cond_embed": condition})
    save_policy(folder / "p", policy, {})
    assert status(flax_to_jax.main, [str(folder / "p"), str(folder / "x")]) == 0
    return policy, folder


def test_orbax_reads_the_official_tree_and_no_condition(
    trained: tuple[PolicyFolder, Path],
) -> None:
    """As openpi's `restore_params`: one root `params`, every leaf of the model and no other."""
    policy, folder = trained
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.restore((folder / "x/params").absolute())["params"]
    flat = {"/".join(k.key for k in path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}
    assert {k: v.shape for k, v in flat.items()} == leaf_shapes(policy.spec.model)
    folded = policy.params["action_in_proj"]["bias"] + policy.params["cond_embed"][POSITIVE]
    np.testing.assert_array_equal(flat["action_in_proj/bias"], folded)
    np.testing.assert_array_equal(flat["state_proj/bias"], policy.params["state_proj"]["bias"])


def test_it_comes_back_with_the_condition_in_the_bias(
    trained: tuple[PolicyFolder, Path], tmp_path: Path
) -> None:
    policy, folder = trained
    assert status(jax_to_flax.main, [str(folder / "x"), str(tmp_path / "back")]) == 0
    back = load_policy(tmp_path / "back")
    assert not back.params["cond_embed"].any()
    assert back.spec.asset_id == "org/robot"
    np.testing.assert_array_equal(back.stats.actions.std, policy.stats.actions.std)
    for path in ("PaliGemma", "state_proj", "action_out_proj"):
        same = jax.tree.map(np.array_equal, back.params[path], policy.params[path])
        assert all(jax.tree.leaves(same))


def test_what_guidance_leads_away_from_is_said_to_be_left_out(
    trained: tuple[PolicyFolder, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, _ = trained
    base = policy.params | {"cond_embed": np.zeros((2, 8), np.float32)}
    save_policy(tmp_path / "guided", dataclasses.replace(policy, reference=base), {})
    assert status(flax_to_jax.main, [str(tmp_path / "guided"), str(tmp_path / "x")]) == 0
    message = "reference/ is left out"
    assert message in capsys.readouterr().out
    manifest = json.loads((tmp_path / "x/manifest.json").read_text())
    assert any(message in note for note in manifest["notes"])
    assert not list((tmp_path / "x").rglob("reference"))


def test_the_export_acts_as_the_policy_at_guidance_1(trained: tuple[PolicyFolder, Path]) -> None:
    """Openpi would take the policy folder too, and act as without a condition: 0.1 off here."""
    policy, folder = trained
    model = Pi0(policy.spec.model)
    obs, flow_in = random_inputs(policy.spec.model, seed=0)
    x_t, time = flow_in["noise"][:, None], flow_in["time"][:, None]  # [b, 1, H, d], [b, 1]

    @jax.jit
    def velocity(params: Any, condition: jax.Array | None) -> jax.Array:
        """float32[b, 1, H, d]."""
        cache = model.encode_prefix(params, obs)
        return model.velocity(params, cache, jnp.asarray(obs.state), x_t, time, condition)

    exported = load_params(OrbaxSource(folder / "x", 7), "float32")
    wanted = velocity(policy.params, jnp.full((2, 1), POSITIVE))
    np.testing.assert_allclose(velocity(exported, None), wanted, atol=1e-5)
    assert np.abs(velocity(policy.params, None) - wanted).max() > 0.1
    notes = json.loads((folder / "x/manifest.json").read_text())["notes"]
    assert any("folded into action_in_proj's bias" in text for text in notes)


def test_a_checkpoint_that_is_no_policy_folder_is_refused(
    trained: tuple[PolicyFolder, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = trained
    assert status(flax_to_jax.main, [str(folder / "x"), str(tmp_path / "z")]) == 2
    assert "expected a policy folder" in capsys.readouterr().err
    assert not (tmp_path / "z").exists()


def test_verify_finds_the_export_to_act_as_the_policy(
    trained: tuple[PolicyFolder, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """End to end: the condition of one side is a row of its own, that of the other in a bias."""
    _, folder = trained
    arguments = [str(folder / "p"), "--against", str(folder / "x"), "--action-horizon", "7"]
    assert status(verify.main, arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["end_to_end"]["actions"]["max_error"] < 1e-4
