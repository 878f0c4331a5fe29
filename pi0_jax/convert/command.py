"""What the four commands share: one-line errors with exit codes, remote sources, common flags.

0 done, 1 the work failed (or a verification is above tolerance), 2 the input was wrong.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from pi0_jax.convert.heads import DeclaredHeads
from pi0_jax.convert.to_policy import ConvertRequest
from pi0_jax.errors import InputError
from pi0_jax.io.place import check_free
from pi0_jax.model.config import DTYPES

# What only the top of an Orbax store, or of a folder that we wrote, has.
_MARKS = ("_METADATA", "manifest.json")


class Parser(argparse.ArgumentParser):
    """argparse whose mistakes are one line, like every other wrong input."""

    def error(self, message: str) -> NoReturn:
        """Raises what `run` prints.

        Raises:
            InputError: always.
        """
        raise InputError(f"{message}; see --help")


def run(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Runs a command on sys.argv and exits."""
    # `kill`, and a batch system whose time is up, shall leave nothing half-written either.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(status(main, sys.argv[1:]))


def status(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    """Runs a command; an exception with a message for people becomes one line and a code."""
    try:
        return main(argv)
    except InputError as error:
        code, message = 2, str(error)
    except OSError as error:
        code, message = 1, str(error)
    except KeyboardInterrupt:
        code, message = 130, "interrupted; nothing was written"
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    return code


def add_heads(parser: argparse.ArgumentParser) -> None:
    """Flags for what a flat PyTorch matrix does not tell."""
    parser.add_argument("--num-heads", type=_positive, help="query heads, if the files do not tell")
    parser.add_argument("--vision-heads", type=_positive, help="heads of the image tower, likewise")


def heads(arguments: argparse.Namespace) -> DeclaredHeads:
    """The values of `add_heads`."""
    return DeclaredHeads(num_heads=arguments.num_heads, vision_heads=arguments.vision_heads)


def add_policy_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of both converters to a policy folder."""
    parser.add_argument("source", metavar="SRC", help="path, gs://... or hf://org/name")
    parser.add_argument("destination", metavar="DST", type=path, help="policy folder to make")
    parser.add_argument("--dtype", choices=DTYPES, help="of the parameters; default: lossless")
    parser.add_argument("--norm-stats", type=path, metavar="FILE", help="a norm_stats.json")
    parser.add_argument("--asset-id", type=_asset_id, help="which statistics, or under which name")
    parser.add_argument("--action-horizon", type=_positive, help="default: the config's, or 50")
    parser.add_argument(
        "--cameras",
        type=_names,
        help="comma-separated, in order; default: the config's or openpi's",
    )
    parser.add_argument(
        "--delta-dims",
        type=_count,
        default=0,
        help="leading action dimensions relative to the state (pi0_libero: 6)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier DST")


def request(arguments: argparse.Namespace, folder: Path) -> ConvertRequest:
    """The values of `add_policy_flags`."""
    return ConvertRequest(
        source=arguments.source,
        folder=folder if folder.is_dir() else folder.parent,
        destination=arguments.destination,
        dtype=arguments.dtype,
        delta_dims=arguments.delta_dims,
        cameras=arguments.cameras,
        overwrite=arguments.overwrite,
    )


def check_destination(source: str, destination: Path, *, overwrite: bool) -> None:
    """DST may be written, which is said before anything is fetched or read.

    Raises:
        InputError: it may not.
    """
    if destination.exists() and not overwrite:
        raise InputError(f"{destination}: exists already; choose another DST or pass --overwrite")
    check_free(destination, overwrite=overwrite)
    here, there = destination.resolve(), Path(source).expanduser().resolve()
    if here == there or here in there.parents:
        raise InputError(f"{destination}: DST must not be SRC or hold it")
    inside = next((p for p in here.parents for mark in _MARKS if (p / mark).is_file()), None)
    if inside is not None:
        raise InputError(f"{destination}: DST must not lie in the checkpoint {inside}")


def path(text: str) -> Path:
    """Type of a flag that names a local file or folder; `~` is understood where no shell did."""
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


def _asset_id(text: str) -> str:
    # It becomes a path below assets/.
    if not all(part and not part.startswith(".") for part in text.split("/")):
        raise argparse.ArgumentTypeError(f"expected a name such as org/robot, got {text!r}")
    return text


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(
            f"expected different names such as front,wrist, got {text!r}"
        )
    return names
