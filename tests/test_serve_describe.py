"""What a server says of itself."""

import dataclasses

from servers import panda_folder, panda_policy, service

from pi0_jax.robot import robot_from_dict
from pi0_jax.robots import load_robot
from pi0_jax.serve import wire
from pi0_jax.serve.describe import OWN, description, metadata
from pi0_jax.serve.layouts import layouts_of


def test_alohas_clients_learn_where_an_episode_begins():
    """The only metadata that openpi's examples read; with LIBERO there is none of it."""
    policy, spec = panda_policy(), panda_folder().spec
    rules, aloha = service(policy).rules, load_robot("aloha")
    of_aloha = dataclasses.replace(rules, robot=aloha, layouts=layouts_of(aloha))
    told = wire.unpack(wire.pack(metadata(policy, spec, of_aloha, "x")))
    assert told["reset_pose"] == [0, -1.5, 1.5, 0, 0, 0]
    assert robot_from_dict(told[OWN]["robot"]) == aloha
    assert told[OWN]["layout"] == "aloha"
    assert metadata(policy, spec, rules, "x").keys() == {OWN}


def test_the_operator_reads_what_is_served():
    policy = panda_policy()
    rules = service(policy, guidance=(1.0, 1.0)).rules
    lines = description(policy, panda_folder().spec, rules).splitlines()
    assert lines[0].split() == ["robot", "libero_panda"]
    assert "  guidance      1 from unconditional, requests: the same" in lines
    assert "  flow steps    2, requests: 1 to 20" in lines
    assert "  rows          4 per call" in lines
