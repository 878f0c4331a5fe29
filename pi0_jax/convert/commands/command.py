"""What the commands share: one-line errors with exit codes, remote sources, common flags.

Exit codes: 0 done, 1 the work failed (or a verification is above tolerance), 2 the input was
wrong, 130 interrupted.
"""

import argparse
import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from pi0_jax.convert.files.remote import local, on_this_machine
from pi0_jax.convert.into.policy_choice import ConvertRequest
from pi0_jax.convert.into.robot_choice import RobotWishes
from pi0_jax.convert.keys.heads import DeclaredHeads
from pi0_jax.convert.sources import folder_files
from pi0_jax.convert.sources.source import Source
from pi0_jax.convert.sources.torch_weights import Choice
from pi0_jax.data.action_space import ADAPTATIONS, parse_mask
from pi0_jax.errors import InputError, exit_status
from pi0_jax.io.digests import DIGESTS, check_digests
from pi0_jax.io.place import check_free
from pi0_jax.model.config import DTYPES
from pi0_jax.policy.spec import is_asset_id
from pi0_jax.robot import Robot
from pi0_jax.robots import load_robot, robot_names

# Files that only the top folder of an Orbax store, or of a folder that pi0_jax wrote, has.
_MARKS = ("_METADATA", "manifest.json")
_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, like those of every other wrong input."""

    def __init__(self, name: str, description: str | None = None):
        """Keeps the line breaks of the description."""
        super().__init__(
            name, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def error(self, message: str) -> NoReturn:
        """Raises the error that `run` prints, where argparse would print its whole usage.

        Raises:
            InputError: always.
        """
        raise InputError(f"{message}; see --help")


def run(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Runs a command on sys.argv and exits."""
    # `kill`, and a batch system at its time limit, send SIGTERM, SLURM SIGUSR1 before it. As a
    # KeyboardInterrupt they run the same clean-up as Ctrl-C, so that no half-written folder stays.
    for number in _STOP:
        signal.signal(number, signal.default_int_handler)
    sys.exit(status(main, sys.argv[1:]))


def status(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    """Runs a command; an error that the user can act on becomes one line and an exit code."""
    return exit_status(lambda: main(argv), "interrupted; nothing was written")


def add_heads(parser: argparse.ArgumentParser) -> None:
    """Adds the flags for head counts, which a flat PyTorch matrix does not show."""
    parser.add_argument("--num-heads", type=_positive, help="query heads, if no file says")
    parser.add_argument("--vision-heads", type=_positive, help="image heads, if no file says")


def heads(arguments: argparse.Namespace) -> DeclaredHeads:
    """The head counts that the flags of `add_heads` gave."""
    return DeclaredHeads(num_heads=arguments.num_heads, vision_heads=arguments.vision_heads)


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say which weights are meant, where a PyTorch checkpoint has several."""
    parser.add_argument(
        "--container", metavar="NAME", help="which of several sets of weights in a file"
    )
    parser.add_argument("--base", metavar="SRC", help="weights that an adapter was trained on")


def choice(arguments: argparse.Namespace) -> Choice:
    """What the flags of `add_choice` said."""
    return Choice(arguments.container, fetched(arguments.base) if arguments.base else None)


def add_policy_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that both converters to a policy folder have."""
    parser.add_argument("source", metavar="SRC", help="path, gs://... or hf://org/name")
    parser.add_argument("destination", metavar="DST", type=path, help="policy folder to make")
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights; default: lossless")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier DST")
    add_settings(parser)


_YES_OR_NO = {
    "--state-in-prompt": "whether a pi0.5 reads its state as text (pi05_libero: no); default: yes",
    "--padded-state-text": "whether that text is zero-padded (lerobot 0.4); default: what SRC "
    "says, or no",
    "--quantile": "normalise by quantiles, not mean and deviation; default: what SRC says, or "
    "pi0.5 yes",
}


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Adds the flags for what the files of a checkpoint may not say."""
    parser.add_argument("--norm-stats", type=path, metavar="FILE", help="a norm_stats.json")
    parser.add_argument(
        "--std-floor",
        type=_spread,
        metavar="X",
        help="raise smaller deviations (or half quantile ranges) to X; 0 keeps them, as openpi",
    )
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="NAME",
        help="a file of SRC that is not read, and need not be; may be repeated",
    )
    parser.add_argument("--asset-id", type=_asset_id, help="which statistics, or their new name")
    parser.add_argument("--action-horizon", type=_positive, help="default: the config's, or 50")
    parser.add_argument(
        "--cameras",
        type=_names,
        help="comma-separated, in order; default: the config's or openpi's",
    )
    parser.add_argument(
        "--robot", type=_robot, metavar="NAME", help=f"{', '.join(robot_names())} or FILE.json"
    )
    parser.add_argument("--state-dim", type=_positive, help="values of state, without --robot")
    parser.add_argument("--action-dim", type=_positive, help="actions, without --robot")
    delta = parser.add_mutually_exclusive_group()
    delta.add_argument(
        "--delta-mask",
        type=_mask,
        metavar="6,-1",
        help="relative actions, then absolute ones, and so on (pi0_libero: 6,-1), or none",
    )
    delta.add_argument(
        "--delta-dims",
        type=_leading,
        dest="delta_mask",
        metavar="N",
        help="--delta-mask N, by its older name",
    )
    parser.add_argument(
        "--adapt-to-pi",
        choices=ADAPTATIONS,
        help="whose conversion of ALOHA's joints surrounds the network; default: what SRC says",
    )
    for flag, help_text in _YES_OR_NO.items():
        yes_or_no = argparse.BooleanOptionalAction
        parser.add_argument(flag, action=yes_or_no, default=None, help=help_text)
    parser.add_argument(
        "--execute-steps",
        type=_positive,
        metavar="N",
        help="actions of a chunk that are executed; default: what SRC says, or 5",
    )


def request(arguments: argparse.Namespace, path: Path, source: Source) -> ConvertRequest:
    """The request that the flags of `add_policy_flags` gave.

    Args:
        arguments: parsed flags.
        path: what the user gave as SRC, on this machine.
        source: the checkpoint that was found there.

    Raises:
        InputError: a file of the checkpoint may change the policy and nothing reads it, or flags
            that contradict each other.
    """
    files = source.info.files
    beside = folder_files.beside(path, source.folder, files, arguments.ignore)
    return ConvertRequest(
        source=arguments.source,
        folder=source.folder,
        destination=arguments.destination,
        dtype=arguments.dtype,
        delta_mask=arguments.delta_mask,
        adapt_to_pi=arguments.adapt_to_pi,
        wishes=_wishes(arguments),
        state_in_prompt=arguments.state_in_prompt,
        padded_state_text=arguments.padded_state_text,
        quantile=arguments.quantile,
        execute_steps=arguments.execute_steps,
        std_floor=arguments.std_floor,
        overwrite=arguments.overwrite,
        beside=tuple(beside),
    )


def _wishes(arguments: argparse.Namespace) -> RobotWishes:
    widths = arguments.state_dim, arguments.action_dim
    if arguments.robot and any(widths):
        raise InputError("--robot has its own widths; leave out --state-dim and --action-dim")
    return RobotWishes(arguments.robot, *widths, arguments.cameras)


def fetched(source: str) -> Path:
    """SRC on this machine.

    Raises:
        InputError: it is not there; or pi0_jax wrote it, and it is not as it was written.
    """
    found = local(source)
    if (found / DIGESTS).exists():
        check_digests(found)
    return found


def check_destination(
    source: str, destination: Path, *, overwrite: bool, base: str | None = None
) -> None:
    """Checks that DST may be written, before anything is fetched or read.

    Args:
        source: SRC as typed.
        destination: DST.
        overwrite: whether a DST that pi0_jax wrote may be replaced.
        base: what `--base` says.

    Raises:
        InputError: DST exists, holds SRC or the base, or lies inside a checkpoint.
    """
    if destination.exists() and not overwrite:
        raise InputError(f"{destination}: exists already; choose another DST or pass --overwrite")
    check_free(destination, overwrite=overwrite)
    # Not `Path.resolve`, for which a link to itself is no wrong input.
    here = Path(os.path.realpath(destination))
    # Replacing DST would delete them with it.
    for name, kept in (("SRC", source), ("--base", base)):
        there = on_this_machine(kept) if kept else None
        if there is None:
            continue
        there = Path(os.path.realpath(there))
        if here == there or here in there.parents:
            raise InputError(f"{destination}: DST must not be {name} or hold it")
    # A folder inside a checkpoint would look like a part of it.
    inside = next((p for p in here.parents for mark in _MARKS if (p / mark).is_file()), None)
    if inside is not None:
        raise InputError(f"{destination}: DST must not lie in the checkpoint {inside}")


def path(text: str) -> Path:
    """Type of a flag that names a local file or folder.

    `~` is expanded here too, because no shell expands it in `--flag=~/x`.
    """
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got ''")
    return Path(text).expanduser()


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}")
    return int(text)


def _positive(text: str) -> int:
    if not _count(text):
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return int(text)


def _leading(text: str) -> tuple[bool, ...]:
    """So many leading actions are relative."""
    return _mask(text) if _count(text) else ()


def _robot(text: str) -> Robot:
    try:
        return load_robot(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _mask(text: str) -> tuple[bool, ...]:
    try:
        return () if text == "none" else parse_mask(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"expected none, or numbers of actions such as 6,-1; got {text!r}"
        ) from error


def _spread(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected 0 or a positive number, got {text!r}")
    return value


def _asset_id(text: str) -> str:
    if not is_asset_id(text):
        raise argparse.ArgumentTypeError(f"expected a name such as org/robot, got {text!r}")
    return text


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(
            f"expected different names such as front,wrist, got {text!r}"
        )
    return names
