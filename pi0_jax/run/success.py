"""Success rates with their uncertainty: Wilson intervals and the rows of results.json."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

from pi0_jax.errors import InputError

Phase = Literal["sft", "rl", "eval"]


def wilson(successes: int, episodes: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a success rate, as fractions in [0, 1].

    With p = successes / n, it is the set of rates q with |p - q| <= z sqrt(q (1 - q) / n):

        (p + z²/2n ± z sqrt(p (1 - p) / n + z²/4n²)) / (1 + z²/n)

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    Journal of the American Statistical Association 22 (1927), 209-212. Unlike p ± z sqrt(p (1 -
    p) / n) it has a width at 0 and 100 % and keeps its coverage at a few dozen episodes.

    Args:
        successes: number of successful episodes.
        episodes: number of episodes n; with n = 0 the interval is (0, 1).
        z: normal quantile; 1.96 gives 95 %.

    Raises:
        ValueError: unless 0 <= successes <= episodes.
    """
    if not 0 <= successes <= episodes:
        raise ValueError(f"expected 0 <= successes <= episodes, got {successes} of {episodes}")
    if episodes == 0:
        return 0.0, 1.0
    rate = successes / episodes
    spread = z * z / episodes
    middle = (rate + spread / 2) / (1 + spread)
    half = math.sqrt(spread * rate * (1 - rate) + spread * spread / 4) / (1 + spread)
    # Rounding gives -1e-17 at 0 successes, but a rate is never outside [0, 1].
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Row:
    """One measured success rate: a row of results.json.

    Attributes:
        phase: the part of the run after which it was measured.
        method: how it was trained, such as "base", "continued_sft", "ript" or "filtered_bc".
        task: name of the task.
        guidance: guidance scale at which the policy acted; None for a policy without condition.
        successes: successful episodes.
        episodes: valid episodes; those in which the simulator failed are not counted.
        reference: what guidance led away from (`policy.reference.KINDS`); "" at scale 1, and in
            results from before it was stored.
    """

    phase: Phase
    method: str
    task: str
    guidance: float | None
    successes: int
    episodes: int
    reference: str = ""

    def __post_init__(self):
        # It raises if the counts are impossible.
        wilson(self.successes, self.episodes)

    @property
    def rate(self) -> float:
        """Success rate in [0, 1]; NaN without an episode."""
        return self.successes / self.episodes if self.episodes else math.nan

    @property
    def wilson_low(self) -> float:
        """Lower end of the 95 % Wilson interval."""
        return wilson(self.successes, self.episodes)[0]

    @property
    def wilson_high(self) -> float:
        """Upper end of the 95 % Wilson interval."""
        return wilson(self.successes, self.episodes)[1]

    def as_dict(self) -> dict[str, Any]:
        """The row as it is stored in results.json; the rate of no episodes is null there."""
        # JSON has no NaN.
        rate = self.rate if self.episodes else None
        ends = {"wilson_low": self.wilson_low, "wilson_high": self.wilson_high}
        return {**asdict(self), "rate": rate, **ends}


def row_from_dict(entry: Mapping[str, Any]) -> Row:
    """Reads what `Row.as_dict` gave.

    Raises:
        InputError: a field is missing or the counts are impossible.
    """
    # Rate and interval are computed from the counts again, so they cannot contradict them.
    try:
        phase, guidance = entry["phase"], entry["guidance"]
        if phase not in get_args(Phase):
            raise ValueError(f"unknown phase {phase!r}")
        return Row(
            phase=cast(Phase, phase),
            method=str(entry["method"]),
            task=str(entry["task"]),
            guidance=None if guidance is None else float(guidance),
            successes=int(entry["successes"]),
            episodes=int(entry["episodes"]),
            reference=str(entry.get("reference", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"expected a row of results.json, got {entry!r}: {error!r}") from error


def pool_tasks(rows: Sequence[Row]) -> list[Row]:
    """Adds up the tasks of each (phase, method, guidance, reference), in order of appearance.

    Tasks with more episodes weigh more; with equal numbers it is the mean over tasks.
    """
    return [_sum(group) for group in by_setting(rows)]


def by_setting(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of all tasks of each (phase, method, guidance, reference), in order of appearance."""
    # A dict keeps the order of first appearance.
    groups: dict[tuple[Phase, str, float | None, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.phase, row.method, row.guidance, row.reference), []).append(row)
    return list(groups.values())


def _sum(rows: Sequence[Row]) -> Row:
    tasks = list(dict.fromkeys(row.task for row in rows))
    return Row(
        phase=rows[0].phase,
        method=rows[0].method,
        task=tasks[0] if len(tasks) == 1 else f"all {len(tasks)} tasks",
        guidance=rows[0].guidance,
        successes=sum(row.successes for row in rows),
        episodes=sum(row.episodes for row in rows),
        reference=rows[0].reference,
    )


def guidance_text(guidance: float | None, reference: str) -> str:
    """For a table: "1.5 from base"; "" for a policy without condition."""
    if guidance is None:
        return ""
    return f"{guidance:g} from {reference}" if reference else f"{guidance:g}"


_HEADER = ("phase", "method", "task", "guidance", "success", "rate", "95 % interval")


def table(rows: Sequence[Row]) -> str:
    """Aligned plain text for a console: a header, then one line per row, no line end at the end.

    If a setting has several tasks, a row with their total follows.
    """
    cells = [_HEADER, *map(_cells, _with_sums(rows))]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(_aligned(line, widths).rstrip() for line in cells)


def markdown(rows: Sequence[Row]) -> str:
    """The same table in GitHub's markdown; a pipe in a name is escaped."""
    # A colon at the right end aligns a column to the right, as in `table`.
    rules = [("---",) * 3 + ("---:",) * 4]
    lines = [_HEADER, *rules, *map(_cells, _with_sums(rows))]
    return "\n".join(f"| {' | '.join(c.replace('|', chr(92) + '|') for c in x)} |" for x in lines)


def _with_sums(rows: Sequence[Row]) -> list[Row]:
    # A total of one task would repeat its row.
    groups = by_setting(rows)
    return [row for group in groups for row in (*group, *[_sum(group)] * (len(group) > 1))]


def _cells(row: Row) -> tuple[str, ...]:
    guidance = guidance_text(row.guidance, row.reference) or "-"
    rate = f"{row.rate:.1%}" if row.episodes else "-"
    interval = f"[{row.wilson_low:.1%}, {row.wilson_high:.1%}]"
    counts = f"{row.successes}/{row.episodes}"
    return row.phase, row.method, row.task, guidance, counts, rate, interval


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Names aligned to the left, numbers to the right."""
    # The first three columns are names.
    pairs = enumerate(zip(cells, widths, strict=True))
    return "  ".join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in pairs)
