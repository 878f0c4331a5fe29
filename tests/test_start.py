"""What training starts from is checked before anything is written, and no weights are read."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from ml_collections import ConfigDict
from tiny import policy_folder

from pi0_jax.apps.config_file import load_config
from pi0_jax.apps.settings import TrainSettings, train_settings
from pi0_jax.apps.start import (
    check_sources,
    check_start,
    conditioned,
    fresh_spec,
    given_policy,
    point_at,
)
from pi0_jax.env.demonstrator import DemonstratorConfig
from pi0_jax.env.scripted import ScriptedTask
from pi0_jax.env.suite import Suite
from pi0_jax.errors import InputError
from pi0_jax.io import orbax_tree
from pi0_jax.policy import folder
from pi0_jax.policy.folder import load_policy, open_policy, save_policy

SUITE = Suite("scripted", (ScriptedTask(),), DemonstratorConfig())


def config() -> ConfigDict:
    """The demo's."""
    return load_config("demo:full")


def settings(checkpoint=None, *, steps=0, **rl) -> TrainSettings:
    """The demo's, with some keys of `rl` replaced, or from a checkpoint."""
    found = config()
    found.rl.update(rl)
    found.execute_steps = steps
    if checkpoint is not None:
        found.init.checkpoint = str(checkpoint)
    return train_settings(found)


@pytest.mark.parametrize(
    ("branch_mode", "length"),
    # "reach the dot" is 15 tokens, with the words behind it 36; the preset has 16.
    [("embedding", 16), ("prompt_dropout", 16), ("text_indicator", 36)],
)
def test_a_fresh_policy_has_room_for_what_it_is_told(branch_mode, length):
    spec = fresh_spec(settings(branch_mode=branch_mode, objective="cfg"), SUITE)
    assert spec.model.prompt_length == length
    assert spec.branch_mode == "embedding"  # until RL says otherwise


def test_a_fresh_pi05_has_room_for_its_state_as_text():
    found = config()
    found.model = "tiny_pi05"
    spec = fresh_spec(train_settings(found), SUITE)
    # bos, "Task: reach the dot, State: " of 28 bytes, eight times "255 " and ";", "Action: ".
    assert spec.model.prompt_length == 1 + 28 + 8 * 4 - 1 + 1 + 1 + 8
    assert spec.quantile and spec.state_in_prompt and spec.model.pi05


def test_a_policy_keeps_the_branch_mode_it_was_trained_with(blind_params):
    plain = policy_folder(blind_params)
    told = conditioned(plain, "text_indicator")
    assert told.spec.branch_mode == told.transforms.branch_mode == "text_indicator"
    assert conditioned(told, "text_indicator").spec == told.spec
    for other in ("embedding", "prompt_dropout"):
        with pytest.raises(InputError, match="was trained with 'text_indicator': set it to that"):
            conditioned(told, other)


def test_a_policy_whose_embedding_rl_has_trained_keeps_it(tmp_path, blind_params):
    """Another mode would leave the embedding out: another policy, without a word."""
    trained = blind_params | {"cond_embed": np.ones_like(blind_params["cond_embed"])}
    assert not policy_folder(blind_params).has_condition
    save_policy(tmp_path / "p", policy_folder(trained), {})
    for one in (policy_folder(trained), load_policy(tmp_path / "p"), open_policy(tmp_path / "p")):
        assert one.has_condition
        assert conditioned(one, "embedding").spec == one.spec
        with pytest.raises(InputError, match="was trained with 'embedding': set it to that"):
            conditioned(one, "text_indicator")


def test_a_checkpoint_is_checked_without_its_weights(tmp_path, blind_params, monkeypatch):
    plain = policy_folder(blind_params)
    save_policy(tmp_path / "p", plain, {})
    for module in (folder, orbax_tree):
        monkeypatch.setattr(module, "load_tree", lambda path: pytest.fail(f"reads {path}"))
    methods = {
        name: SimpleNamespace(branch_mode=name, batch_size=8)
        for name in ("embedding", "text_indicator")
    }
    check_start(settings(tmp_path / "p"), SUITE, {"ript": methods["embedding"]})
    with pytest.raises(InputError, match="36 tokens does not fit the model's 16"):
        check_start(settings(tmp_path / "p"), SUITE, methods)
    with pytest.raises(InputError, match=r"expected a policy folder, found none at .*/q;"):
        check_start(settings(tmp_path / "q"), SUITE, methods)


def test_a_checkpoint_that_fits_but_for_a_shape_is_refused(tmp_path, blind_params):
    plain = policy_folder(blind_params)
    model = dataclasses.replace(plain.spec.model, prompt_length=36, vocab_size=300)
    spec = dataclasses.replace(plain.spec, model=model)
    save_policy(tmp_path / "p", dataclasses.replace(plain, spec=spec), {})
    with pytest.raises(InputError, match=r"input_embedding: expected shape \[300, 16\], got"):
        given_policy(settings(tmp_path / "p"), SUITE, weights=False)


def test_batches_fit_the_hardware():
    found = config()
    found.hardware.micro_batches = 3
    with pytest.raises(InputError, match="batch_size must be a multiple of"):
        check_start(train_settings(found), SUITE, {})


def test_demonstrations_come_from_one_place_and_from_somewhere():
    start = config()
    check_sources(train_settings(start))
    start.demonstrations.lerobot = "data"
    with pytest.raises(InputError, match="demonstrations come from one place; set the other to"):
        check_sources(train_settings(start))
    start.demonstrations.episodes = 0
    check_sources(train_settings(start))
    start.demonstrations.lerobot = ""
    with pytest.raises(InputError, match="there are no demonstrations: set"):
        check_sources(train_settings(start))
    start.init.checkpoint, start.sft.steps = "policy", 0
    with pytest.raises(InputError, match="no baseline that imitates"):
        check_sources(train_settings(start))
    start.baselines = {}
    check_sources(train_settings(start))
    start.init.statistics = "demonstrations"
    with pytest.raises(InputError, match="is 'demonstrations', and there are none"):
        check_sources(train_settings(start))


def test_a_checkpoint_executes_what_it_says_unless_the_config_says_otherwise(
    tmp_path, blind_params
):
    save_policy(tmp_path / "p", policy_folder(blind_params), {})
    for asked, expected in ((0, 3), (2, 2), (4, 4)):
        found = given_policy(settings(tmp_path / "p", steps=asked), SUITE)
        assert found.spec.execute_steps == expected
    with pytest.raises(InputError, match="between 1 and the action horizon 4, got 5"):
        given_policy(settings(tmp_path / "p", steps=5), SUITE)


def test_a_note_names_the_checkpoint_and_knows_it_again(tmp_path, blind_params):
    save_policy(tmp_path / "p", policy_folder(blind_params), {"by": "one"})
    point_at(tmp_path / "base.json", tmp_path / "p")
    note = (tmp_path / "base.json").read_text()
    assert str(tmp_path / "p") in note
    (tmp_path / "p").rename(tmp_path / "moved")
    point_at(tmp_path / "base.json", tmp_path / "moved")
    assert (tmp_path / "base.json").read_text() == note
    save_policy(tmp_path / "p", policy_folder(blind_params), {"by": "two"})
    with pytest.raises(InputError, match="is another checkpoint than the one that this run star"):
        point_at(tmp_path / "base.json", tmp_path / "p")
