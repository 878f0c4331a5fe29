"""Keys of earlier versions answer with the new name."""

import pytest

from pi0_jax.apps.old_keys import check_old_keys, new_name
from pi0_jax.errors import InputError


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("rl.sampling", "rl.groups"),
        ("rl.sampling.group_size", "rl.groups.group_size"),
        ("rl.sampling.groups_per_step", "rl.groups.groups_per_iteration"),
        ("rl.updates_per_step", "rl.updates_per_iteration"),
        ("rl.condition", "rl.branch_mode"),
        ("rl.loss.alpha", "rl.cfg.alpha"),
        ("rl.loss.time_samples", "rl.time_samples"),
        ("rl.loss.branch_dropout", "rl.cfg_dropout.probability (with rl.objective=cfg_dropout)"),
        ("rl.loss.shared_noise", "rl.cfg.shared_noise"),
        ("task.expert.offset_sigma", "task.demonstrator.offset_sigma"),
        ("eval.num_steps", "eval.num_flow_steps"),
        ("eval.num_flow_steps", None),
        ("rl.samplings", None),
    ],
)
def test_new_names(old, new):
    assert new_name(old) == new


def test_a_config_with_an_old_key_is_refused():
    check_old_keys({"rl": {"groups": {"group_size": 8}}, "baselines": {}})
    with pytest.raises(InputError, match=r"^config key rl.loss.alpha is now rl.cfg.alpha$"):
        check_old_keys({"rl": {"loss": {"alpha": 0.1}}})
    with pytest.raises(InputError, match=r"rl.sampling.group_size is now rl.groups.group_size"):
        check_old_keys({"baselines": {"small": {"sampling": {"group_size": 4}}}})
