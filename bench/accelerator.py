"""What one accelerator does, within eight minutes: parts in the order of their worth, each bounded.

python bench/accelerator.py [--size pi0|small] [--out FOLDER] [--minutes 7.5]

    parity         goldens of tests/goldens, as openpi computed them, on this device
    sampler        1, 8 and 64 rows, guided and not; weights held as policies hold them, and float32
    updates        expert_only, lora, full; samples/s
    attention      the sampler with the fused kernel
    simulator      control steps/s of Lift under the renderer that works here
    whole policy   a policy of random weights: written, read, and its first action

Each part is a process of its own: one that is too slow is ended, one that runs out of memory loses
nothing else, and the device is empty for the next. It needs installed packages and this repository
alone; no network. It prints one table and writes it to OUT/accelerator.md and .json.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

PART = Path(__file__).with_name("accelerator_part.py")


@dataclass(frozen=True)
class Part:
    """A process of the bench.

    Attributes:
        name: of the part in `accelerator_part.py`.
        seconds: after which it is ended.
        arguments: of the part.
    """

    name: str
    seconds: float
    arguments: tuple[str, ...] = ()


# Most valuable first: what no time is left for is not known afterwards.
PARTS = (
    Part("parity", 60),
    Part("sampler", 90, ("1", "8", "64")),
    Part("update", 75, ("expert_only", "32")),
    Part("update", 90, ("full", "16")),
    Part("guided", 60, ("8", "64")),
    Part("uncast", 60, ("1", "64")),
    Part("attention", 60, ("1", "64")),
    Part("update", 75, ("lora", "4")),
    Part("simulator", 40),
    Part("policy", 90),
)


@dataclass(frozen=True)
class Line:
    """A row of the table: what was measured, or why not."""

    what: str
    value: str


def run(part: Part, size: str, seconds: float) -> list[Line]:
    """The rows of one part; those that it had printed before it was ended, too."""
    command = [sys.executable, str(PART), part.name, size, *part.arguments]
    label = " ".join((part.name, *part.arguments))
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired as late:
        said = late.stdout or b""
        text = said.decode() if isinstance(said, bytes) else said
        return [*_rows(text), Line(label, f"ended after {seconds:.0f} s")]
    found = _rows(ended.stdout)
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["no message"])[-1]
        found.append(Line(label, f"failed: {last[:200]}"))
    return found


def _rows(text: str) -> list[Line]:
    """Lines `what | value` of a part's output; all else is a library's."""
    cut = (line.split(" | ", 1) for line in text.splitlines() if " | " in line)
    return [Line(what, value) for what, value in cut]


def table(lines: list[Line], size: str) -> str:
    """Markdown."""
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    body = "\n".join(f"| {line.what} | {line.value} |" for line in lines)
    return f"bench/accelerator.py --size {size}, {date}\n\n| what | value |\n|---|---|\n{body}\n"


def main() -> None:
    """Runs all parts for which there is time, and writes the table after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=("small", "pi0"), default="pi0")
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--minutes", type=float, default=7.5)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    end, lines = time.monotonic() + 60 * args.minutes, []
    for part in PARTS:
        left = end - time.monotonic()
        label = " ".join((part.name, *part.arguments))
        found = (
            run(part, args.size, min(part.seconds, left))
            if left > 5
            else [Line(label, "no time left")]
        )
        for line in found:
            print(f"{line.what}: {line.value}", flush=True)
        lines += found
        # After each part: a machine may be taken away at any moment.
        (args.out / "accelerator.md").write_text(table(lines, args.size))
        (args.out / "accelerator.json").write_text(json.dumps([asdict(x) for x in lines], indent=1))
    print(table(lines, args.size))


if __name__ == "__main__":
    main()
