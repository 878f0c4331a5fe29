"""Whether what lies in a folder is as it was written: policies, checkpoints, runs, exports.

python -m pi0_jax.check FOLDER            one line per folder with digests and per episode file
python -m pi0_jax.check --renew FOLDER    first makes the digests of FOLDER anew: after a change
                                          that was meant, or for a folder of an earlier version
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from pi0_jax.errors import InputError, some
from pi0_jax.io.digests import DIGESTS, differing, write_digests
from pi0_jax.io.episodes import VISIBLE
from pi0_jax.io.zip_digest import is_whole
from pi0_jax.listing import below


def command() -> NoReturn:
    """`python -m pi0_jax.check`. Exit codes: 0 all whole, 1 something is damaged, 2 wrong input."""
    try:
        sys.exit(main(sys.argv[1:]))
    except (InputError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


def main(arguments: Sequence[str]) -> int:
    """Prints a line for each thing found; returns the exit code.

    Raises:
        InputError: wrong arguments, or nothing there that has digests.
    """
    if {"--help", "-h"} & {*arguments}:
        sys.stdout.write(__doc__ or "")
        return 0
    names = [argument for argument in arguments if argument not in ("--renew", "--")]
    if len(names) != 1:
        raise InputError(f"expected one folder, got {' '.join(names) or 'none'}; see --help")
    folder = Path(names[0]).expanduser()
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if "--renew" in arguments:
        write_digests(folder)
    found = {path: _damage(path) for path in _things(folder)}
    if not found:
        raise InputError(f"{folder}: nothing in it has digests; `--renew` makes those of a folder")
    for path, damage in found.items():
        sys.stdout.write(f"{'DAMAGED' if damage else 'whole':<8}{path}{damage}\n")
    return 1 if any(found.values()) else 0


def _things(folder: Path) -> list[Path]:
    """Folders with digests, and episode files that are in none of them."""
    folders = [path.parent for path in below(folder, DIGESTS)]
    files = [
        path
        for path in below(folder, VISIBLE)
        if not any(path.is_relative_to(one) for one in folders)
    ]
    return folders + files


def _damage(path: Path) -> str:
    """What is wrong, for the end of a line; "" for nothing."""
    if path.is_file():
        return "" if is_whole(path) else ": not what was written"
    try:
        changed = differing(path)
    except InputError as error:
        return f": {error}"
    return f": {some(changed, 5)}" if changed else ""
