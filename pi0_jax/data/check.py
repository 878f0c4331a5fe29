"""Looks at a LeRobot folder before it is learnt from: a list of findings, and a contact sheet.

python -m pi0_jax.data.check FOLDER [--robot aloha] [--sheet FILE.png]
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pi0_jax.data.contact_sheet import write_sheet
from pi0_jax.data.lerobot.check_folder import check_folder
from pi0_jax.data.lerobot.findings import Finding
from pi0_jax.data.lerobot.folder import read_lerobot
from pi0_jax.errors import exit_status
from pi0_jax.robots import AS_THE_FOLDER_SAYS, load_robot, robot_names

_MOST = 200  # findings that are printed


def main(argv: Sequence[str]) -> int:
    """Prints all findings and draws the sheet; returns 1 if a training would stop, else 0.

    Raises:
        InputError: it is no LeRobot folder, the robot is unknown, or a camera has no column.
    """
    given = _parse(argv)
    clock = time.monotonic()
    path = Path(given.folder).expanduser()
    robot = None if given.robot == AS_THE_FOLDER_SAYS else load_robot(given.robot)
    named = tuple(given.cameras.split(",")) if given.cameras else None
    # Of a robot of another kind the cameras would not be found, and the list is to be whole.
    folder = read_lerobot(path, named)
    findings = check_folder(folder, robot)
    sheet = Path(given.sheet or f"{path.resolve().name}_sheet.png")
    write_sheet(sheet, folder.recordings, folder.robot.cameras)
    sys.stdout.writelines(f"{line}\n" for line in _listed(findings))
    sys.stdout.write(
        f"{folder}, cameras {', '.join(folder.robot.cameras)}, looked at in "
        f"{time.monotonic() - clock:.1f} s: {sum(one.stops for one in findings)} errors, "
        f"{sum(not one.stops for one in findings)} notes; pictures in {sheet}\n"
    )
    return int(any(one.stops for one in findings))


def _listed(findings: Sequence[Finding]) -> list[str]:
    more = [f"... and {len(findings) - _MOST} more"] if len(findings) > _MOST else []
    return [*map(str, findings[:_MOST]), *more]


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pi0_jax.data.check",
        description=(__doc__ or "").split("\n")[0],
        epilog="Exit codes: 0 nothing stops a training, 1 something does, 2 wrong input.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "folder", metavar="FOLDER", help="a LeRobot folder, version 2.0, 2.1 or 3.0"
    )
    names = ", ".join(robot_names())
    parser.add_argument(
        "--robot", default=AS_THE_FOLDER_SAYS, metavar="NAME",
        help=f"compare with {names} or FILE.json; without it, with what the folder says",
    )  # fmt: skip
    parser.add_argument("--cameras", metavar="A,B", help="cameras to look at (all of the folder)")
    parser.add_argument(
        "--sheet", metavar="FILE", help="where the contact sheet goes (./FOLDER_sheet.png)"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:]), "interrupted"))
