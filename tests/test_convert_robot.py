"""Whose robot a converted policy has: named, of the asset id, of the widths, or an error."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from pi0_jax.convert.commands import command
from pi0_jax.convert.into.robot_choice import OPENPI_CAMERAS, RobotWishes, choose_robot
from pi0_jax.convert.into.robot_notes import robot_notes
from pi0_jax.convert.into.statistics import FoundStats
from pi0_jax.convert.settings.torch_config import TorchConfig
from pi0_jax.data.action_space import AS_THE_ROBOT, ActionSpace, parse_mask
from pi0_jax.data.normalize import NormStats, Stats
from pi0_jax.errors import InputError
from pi0_jax.robots import load_robot

LIBERO, PADDED = "physical-intelligence/libero", 32


def found(state: int, actions: int, asset_id: str = "default", padded: int = 0) -> FoundStats:
    """Statistics of these widths, padded with zeros to `padded`."""

    def stats(width: int) -> Stats:
        """Ones, then zeros."""
        values = np.zeros(max(width, padded))
        values[:width] = 1.0
        return Stats(values, values)

    return FoundStats(NormStats(stats(state), stats(actions)), asset_id, "here")


def choose(
    stats: FoundStats,
    declared: TorchConfig | None = None,
    space: ActionSpace = AS_THE_ROBOT,
    **wishes: Any,
):
    return choose_robot(stats, declared or TorchConfig(), RobotWishes(**wishes), PADDED, space)


def noted(
    stats: FoundStats,
    declared: TorchConfig | None = None,
    space: ActionSpace = AS_THE_ROBOT,
    **wishes: Any,
) -> list[str]:
    """What is said about the robot that `choose` gives."""
    robot = choose(stats, declared, space, **wishes)
    return robot_notes(stats, declared or TorchConfig(), RobotWishes(**wishes), space, robot)


@pytest.mark.parametrize("padded", [0, PADDED])
def test_openpis_asset_id_names_the_robot(padded: int) -> None:
    robot = choose(found(8, 7, LIBERO, padded))
    panda = load_robot("libero_panda")
    assert (robot.name, robot.state, robot.actions) == (panda.name, panda.state, panda.actions)
    assert (robot.cameras, robot.masked_cameras) == (panda.cameras, ("right_wrist_0_rgb",))


def test_an_asset_id_with_other_widths_names_no_robot() -> None:
    robot = choose(found(5, 3, LIBERO))
    assert (robot.name, len(robot.state), len(robot.actions)) == ("unknown", 5, 3)
    assert (robot.cameras, robot.masked_cameras) == (OPENPI_CAMERAS[:2], OPENPI_CAMERAS[2:])


def test_the_robot_that_the_user_names_wins_over_the_asset_id() -> None:
    assert choose(found(8, 8, "droid"), robot=load_robot("droid")).name == "droid"
    own = dataclasses.replace(load_robot("libero_panda"), name="mine")
    assert choose(found(8, 7, LIBERO), robot=own).name == "mine"
    with pytest.raises(InputError, match="'droid' has 8 actions, here statistics of 7"):
        choose(found(8, 7, LIBERO), robot=load_robot("droid"))


def test_widths_are_not_taken_from_zeros() -> None:
    """A last action that never moves looks like padding."""
    with pytest.raises(InputError, match=r"padded to the network's 32 state dimensions.*--robot"):
        choose(found(8, 7, padded=PADDED))
    robot = choose(found(8, 7, padded=PADDED), state_dim=8, action_dim=7)
    assert (len(robot.state), len(robot.actions)) == (8, 7)
    still = found(8, 7)
    still.stats.actions.std[-1] = still.stats.actions.mean[-1] = 0.0
    assert len(choose(still).actions) == 7
    # Statistics that fill the network's width and do not end in zeros are the robot's own.
    assert len(choose(found(PADDED, PADDED)).state) == PADDED


def test_statistics_that_go_on_after_the_robots_dimensions_are_an_error() -> None:
    with pytest.raises(InputError, match="'libero_panda' has 8 values of state, here statistics"):
        choose(found(9, 7), robot=load_robot("libero_panda"))
    with pytest.raises(InputError, match="expected statistics of 9 state values, got 8"):
        choose(found(8, 7), state_dim=9)


def test_the_cameras_of_a_config_keep_their_names() -> None:
    declared = TorchConfig(cameras=("image", "image2"), state_dim=8, action_dim=7)
    robot = choose(found(8, 7, LIBERO), declared)
    assert (robot.name, robot.cameras) == ("libero_panda", ("image", "image2"))
    assert choose(found(8, 7), declared, cameras=("a",)).cameras == ("a",)
    one = dataclasses.replace(declared, cameras=("image",))
    with pytest.raises(InputError, match="has the cameras agentview, robot0_eye_in_hand"):
        choose(found(8, 7), one, robot=load_robot("libero_panda"))


def test_cameras_in_another_order_than_the_robots_are_an_error() -> None:
    """Else the wrist's picture would go where the network expects the scene."""
    panda, wrist_first = load_robot("libero_panda"), TorchConfig(cameras=("image2", "image"))
    message = "'image2' of image2, image is left_wrist_0_rgb by its name, .* has base_0_rgb at"
    for stats in (found(8, 7), found(8, 7, LIBERO)):
        with pytest.raises(InputError, match=message):
            choose(stats, wrist_first, robot=panda)
    with pytest.raises(InputError, match="'robot0_eye_in_hand' of robot0_eye_in_hand, agentview"):
        choose(found(8, 7), TorchConfig(cameras=panda.cameras[::-1]), robot=panda)
    # A robot of the user's own says the views of its cameras itself.
    own = dataclasses.replace(panda, cameras=("a", "b"))
    with pytest.raises(InputError, match="'b' of b, a is left_wrist_0_rgb"):
        choose(found(8, 7), TorchConfig(cameras=("b", "a")), robot=own)
    # What the message asks for: the robot with the checkpoint's order, and no views.
    own = dataclasses.replace(panda, cameras=("image2", "image"), views=())
    assert choose(found(8, 7), wrist_first, robot=own).cameras == ("image2", "image")


def test_cameras_whose_names_say_nothing_are_mapped_by_their_order_with_a_note() -> None:
    panda = load_robot("libero_panda")
    known = TorchConfig(cameras=("image", "image2"))
    assert noted(found(8, 7), known, robot=panda) == []
    (note,) = noted(found(8, 7), TorchConfig(cameras=("front", "image2")), robot=panda)
    assert "robot 'libero_panda' are taken to be: front for base_0_rgb;" in note
    assert noted(found(8, 7), TorchConfig(cameras=OPENPI_CAMERAS), robot=panda) == []
    assert noted(found(8, 7), TorchConfig(), robot=panda) == []


def test_the_number_of_cameras_is_not_guessed_in_silence() -> None:
    """Nothing says whether a robot of one arm has the third camera of openpi's."""
    three = TorchConfig(cameras=OPENPI_CAMERAS)
    for declared in (three, TorchConfig()):
        (note,) = noted(found(8, 7), declared)
        assert note == (
            "right_wrist_0_rgb is taken to be absent; if the robot has it: "
            "--cameras base_0_rgb,left_wrist_0_rgb,right_wrist_0_rgb"
        )
        (note,) = noted(found(14, 14), declared)
        assert note.endswith("right_wrist_0_rgb; if it lacks some: --cameras A,B")
    assert noted(found(8, 7), three, cameras=OPENPI_CAMERAS) == []
    assert choose(found(8, 7), three, cameras=OPENPI_CAMERAS).cameras == OPENPI_CAMERAS
    assert noted(found(8, 7), TorchConfig(cameras=("front", "wrist"))) == []


def test_droids_asset_id_is_not_always_that_of_velocities() -> None:
    """Openpi's pi05_full_droid_finetune: joint positions, relative by 7,-1, the same asset id."""
    relative = ActionSpace(parse_mask("7,-1"))
    assert choose(found(8, 8, "droid")).name == "droid"
    assert choose(found(8, 8, "droid"), space=relative).name == "unknown"
    note, _ = noted(found(8, 8, "droid"), space=relative)
    assert note.endswith("give --robot droid_joint_position")
    positions = load_robot("droid_joint_position")
    assert noted(found(8, 8, "droid"), space=relative, robot=positions) == []
    # LIBERO's actions are motions, and openpi's pi0_libero has them relative all the same.
    assert choose(found(8, 7, LIBERO), space=ActionSpace(parse_mask("6,-1"))).name == "libero_panda"


def test_limits_that_an_asset_id_alone_brings_are_said() -> None:
    (note,) = noted(found(8, 8, "droid"))
    assert "the asset id 'droid' alone chose the robot 'droid': actions are clipped" in note
    assert "(joint_1_velocity: -1.0 to 1.0, ...)" in note and "droid_joint_position" in note
    assert noted(found(8, 8, "droid"), robot=load_robot("droid")) == []
    # ALOHA's file has no limits.
    assert noted(found(14, 14, "trossen")) == []


def test_openpis_three_cameras_are_masked_where_the_robot_has_no_second_arm() -> None:
    declared = TorchConfig(cameras=OPENPI_CAMERAS)
    assert choose(found(8, 7), declared).cameras == OPENPI_CAMERAS[:2]
    assert choose(found(14, 14), declared).cameras == OPENPI_CAMERAS
    aloha = choose(found(14, 14, "trossen"))
    assert (aloha.name, aloha.masked_cameras) == ("aloha", ())


def test_the_flags_of_the_command_line(tmp_path: Path) -> None:
    parser = command.Parser("x")
    command.add_policy_flags(parser)

    def request(*flags: str) -> command.ConvertRequest:
        """What these flags ask for."""
        source = SimpleNamespace(folder=tmp_path, info=SimpleNamespace(files=[]))
        return command.request(parser.parse_args(["a", "b", *flags]), tmp_path, cast(Any, source))

    assert request().delta_mask is None and request().adapt_to_pi is None
    assert request("--delta-mask", "none").delta_mask == ()
    assert request("--delta-dims", "2").delta_mask == (True, True)
    assert request("--delta-mask", "1,-1").delta_mask == (True, False)
    robot = request("--robot", "aloha", "--adapt-to-pi", "openpi")
    assert robot.wishes.robot == load_robot("aloha") and robot.adapt_to_pi == "openpi"
    assert request().quantile is None and request().execute_steps is None
    assert request("--quantile").quantile is True
    assert request("--no-quantile", "--execute-steps", "8").quantile is False
    assert request("--execute-steps", "8").execute_steps == 8
    with pytest.raises(InputError, match="leave out --state-dim"):
        request("--robot", "droid", "--state-dim", "8")
