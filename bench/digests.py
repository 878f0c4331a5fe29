"""What it costs to know that a folder is whole: digests and syncs beside writing it.

python bench/digests.py [--files 16] [--megabytes 64] [--rounds 3]

Random bytes in a temporary folder; the least of the rounds counts.
"""

import argparse
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pi0_jax.io.digests import differing, write_digests


def main() -> None:
    """Prints seconds of each part, and its ratio to writing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=16)
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    block = os.urandom(args.megabytes * 10**6)
    rounds = [one_round(block, args.files) for _ in range(args.rounds)]
    least = {name: min(found[name] for found in rounds) for name in rounds[0]}
    sys.stdout.write(f"{args.files} files of {args.megabytes} MB\n")
    for name, seconds in least.items():
        sys.stdout.write(f"{name:22}{seconds:7.3f} s  x {seconds / least['write']:.2f}\n")


def one_round(block: bytes, files: int) -> dict[str, float]:
    """Seconds of each part."""
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name) / f"{i}.bin" for i in range(files)]
        return {
            "write": seconds(lambda: [path.write_bytes(block) for path in paths]),
            "sync": seconds(lambda: [sync(path) for path in paths]),
            "digests (CRC-32)": seconds(lambda: write_digests(Path(name))),
            "check": seconds(lambda: differing(Path(name))),
            "SHA-256, one thread": seconds(lambda: [hashlib.sha256(block) for _ in paths]),
        }


def sync(path: Path) -> None:
    """Waits until a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def seconds(work: Callable[[], object]) -> float:
    """Wall time of a call."""
    start = time.monotonic()
    work()
    return time.monotonic() - start


if __name__ == "__main__":
    main()
