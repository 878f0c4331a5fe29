"""What cannot be trained shows before the first demonstration."""

import pytest

from pi0_jax.apps.config_file import load_config
from pi0_jax.apps.settings import train_settings
from pi0_jax.apps.start_updates import check_updates
from pi0_jax.errors import InputError
from pi0_jax.plain_values import dotted_values
from pi0_jax.testing import tiny_policy

SPEC = tiny_policy().spec


def check(**changes) -> None:
    """The demo's updates on the tiny network, with some keys replaced by their dotted names."""
    config = load_config("demo")
    assert changes.keys() <= {*dotted_values(config.to_dict()), "baselines"}
    for key, value in changes.items():
        *sections, name = key.split(".")
        place = config
        for part in sections:
            place = place[part]
        place[name] = value
    settings = train_settings(config)
    check_updates(settings, SPEC, settings.methods(1))


def test_the_demo_can_be_trained():
    check()


@pytest.mark.parametrize("section", ["sft", "rl"])
@pytest.mark.parametrize(
    ("rules", "match"),
    [
        ((("nothing", 1.0),), "optimizer rule 'nothing' matches no parameter"),
        (((".*", 0.0),), "every parameter is frozen"),
    ],
)
def test_rules(section, rules, match):
    with pytest.raises(InputError, match=rf"config\.{section}: {match}"):
        check(**{f"{section}.optimizer.rules": rules})


def test_a_method_names_its_section():
    with pytest.raises(InputError, match=r"config\.baselines\.continued_sft|config\.rl"):
        check(**{"rl.optimizer.rules": (("nothing", 1.0),)})


def test_every_objective_s_rules_are_checked():
    """Of flow_pg too, whose noise is a parameter only where it is learned."""
    noise = {"rl.optimizer.rules": (("loss/noise", 30.0),)}
    flow_pg = {
        "rl.objective": "flow_pg",
        "rl.advantage.negatives": "signed",
        "rl.advantage.clipping": "none",
        "rl.buffer_iterations": 1,
        "baselines": {},
    }
    check(**flow_pg, **noise, **{"rl.flow_pg.learn_noise": True})
    with pytest.raises(InputError, match=r"config\.rl: optimizer rule 'loss/noise' matches no"):
        check(**flow_pg, **noise)


def test_branches_by_prompt():
    check(**{"rl.objective": "cfg", "rl.branch_mode": "text_indicator"})
    with pytest.raises(InputError, match=r"'cfg_detached' needs rl.branch_mode='embedding'"):
        check(**{"rl.branch_mode": "text_indicator"})


def test_memory():
    check(**{"hardware.memory_gb": 1.0})
    with pytest.raises(InputError, match=r"config\.sft: .* but a device has 0.00 GB"):
        check(**{"hardware.memory_gb": 1e-5, "sft.batch_size": 2})
