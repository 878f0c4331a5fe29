"""Normalisation statistics of LeRobot folders, for a new fine-tuning; no picture is decoded.

python -m pi0_jax.data.stats FOLDER [FOLDER ...] --robot aloha --out norm_stats.json
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pi0_jax.data.action_space import ActionSpace, parse_mask
from pi0_jax.data.chunk_stats import STATE_FLOOR, motion_stats
from pi0_jax.data.lerobot.findings import refuse
from pi0_jax.data.lerobot.folder import LeRobotFolder, read_lerobot
from pi0_jax.data.normalize import NormStats, save_norm_stats
from pi0_jax.data.origin import origin_of
from pi0_jax.errors import InputError, exit_status
from pi0_jax.robot import Dimension, Robot
from pi0_jax.robots import AS_THE_FOLDER_SAYS, Defaults, load_robot_file, robot_names

HORIZON = 50
"""Actions per chunk of pi0; pi05_libero has 10, pi05_droid 15."""
STD_FLOOR = 1e-3
"""Smallest standard deviation of an action in a new fine-tuning, in its unit."""


def folder_stats(
    folders: Sequence[LeRobotFolder], space: ActionSpace, horizon: int, std_floor: float
) -> NormStats:
    """Statistics over all episodes of all folders, with what they were computed from.

    Args:
        folders: of one robot.
        space: the policy's action space.
        horizon: actions per chunk.
        std_floor: smallest standard deviation of an action.

    Raises:
        InputError: as `motion_stats`.
    """
    motions = [(r.state, r.actions) for folder in folders for r in folder.recordings]
    origin = origin_of([f.digest for f in folders], motions, space, horizon, std_floor)
    return replace(motion_stats(motions, space, horizon, std_floor), origin=origin)


def action_space(defaults: Defaults) -> ActionSpace:
    """The action space with which a new fine-tuning begins.

    Raises:
        InputError: the mask is no list of numbers of actions, or the conversion is unknown.
    """
    try:
        mask = parse_mask(defaults.delta_mask) if defaults.delta_mask else ()
    except ValueError as error:
        raise InputError(f"fine_tuning.delta_mask: {error}") from error
    return ActionSpace(mask, defaults.adapt_to_pi)


def main(argv: Sequence[str]) -> int:
    """Writes the file and prints what is in it.

    Raises:
        InputError: a folder or the robot is not what it should be, or the file exists.
    """
    given = _parse(argv)
    out = Path(given.out).expanduser()
    if out.exists() and not given.overwrite:
        raise InputError(f"{out}: exists; remove it or add --overwrite")
    clock = time.monotonic()
    folders = [read_lerobot(Path(name).expanduser(), ()) for name in given.folders]
    for folder in folders:
        refuse(folder.findings, folder.path)
    robot, defaults = folders[0].robot, Defaults()
    if given.robot != AS_THE_FOLDER_SAYS:
        file = load_robot_file(given.robot)
        robot, defaults = file.robot, file.fine_tuning
    if given.delta_mask is not None:
        defaults = replace(defaults, delta_mask=given.delta_mask)
    space = action_space(defaults)
    space.check_robot(robot)
    for folder in folders:
        folder.check_robot(robot)
    stats = folder_stats(folders, space, given.horizon, given.std_floor)
    save_norm_stats(out, stats)
    sys.stdout.write(_table(stats, robot, given.std_floor))
    assert stats.origin is not None
    sys.stdout.write(
        f"{out}: {stats.origin.episodes} episodes, {stats.origin.frames} steps in "
        f"{time.monotonic() - clock:.1f} s, digest {stats.digest[:12]}\n"
    )
    return 0


def _table(stats: NormStats, robot: Robot, std_floor: float) -> str:
    """A line per dimension, with a remark where it hardly moves."""
    lines = [f"{'':26}{'mean':>12}{'std':>12}{'q01':>12}{'q99':>12}"]
    for kind, dimensions, part in (
        ("state", robot.state, stats.state),
        ("action", robot.actions, stats.actions),
    ):
        assert part.q01 is not None and part.q99 is not None
        rows = zip(dimensions, part.mean, part.std, part.q01, part.q99, strict=True)
        floor = STATE_FLOOR if kind == "state" else std_floor
        lines += [_line(f"{kind} {one.name}", one, numbers, floor) for one, *numbers in rows]
    return "\n".join(lines) + "\n"


def _line(name: str, dimension: Dimension, numbers: Sequence[np.float64], floor: float) -> str:
    still = "  hardly moves" if numbers[1] <= floor else ""
    unit = f" [{dimension.unit}]" if dimension.unit else ""
    return f"{name + unit:26}" + "".join(f"{x:12.5g}" for x in numbers) + still


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pi0_jax.data.stats",
        description=(__doc__ or "").split("\n")[0],
        allow_abbrev=False,
    )
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="LeRobot folders of one robot")
    names = ", ".join(robot_names())
    parser.add_argument(
        "--robot", required=True, metavar="NAME",
        help=f"{names}, FILE.json, or {AS_THE_FOLDER_SAYS}: as the folder says",
    )  # fmt: skip
    parser.add_argument("--out", required=True, metavar="FILE", help="norm_stats.json to write")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE")
    parser.add_argument(
        "--horizon", type=int, default=HORIZON, help=f"actions per chunk of the policy ({HORIZON})"
    )
    parser.add_argument(
        "--delta-mask", metavar="6,-1",
        help="relative actions, '' for none, in place of those of the robot's file",
    )  # fmt: skip
    parser.add_argument(
        "--std-floor", type=float, default=STD_FLOOR,
        help=f"smallest standard deviation of an action ({STD_FLOOR:g})",
    )  # fmt: skip
    given = parser.parse_args(argv)
    if given.horizon < 1 or not 0 <= given.std_floor < np.inf:
        raise InputError("--horizon must be at least 1, and --std-floor a number from 0")
    return given


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:]), "interrupted; nothing was written"))
