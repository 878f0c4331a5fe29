"""How the values of every group of parameters are distributed, read one layer at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pi0_jax.convert.keys.keymap import Leaf, leaves
from pi0_jax.convert.sources.orbax_source import COND_EMBED
from pi0_jax.convert.sources.source import Source, ahead, progress_bar, tasks

# Elements that are turned into float64 at a time.
_BLOCK = 2**20
_HEADINGS = ("min", "max", "mean", "std", "zeros", "not finite")


@dataclass(frozen=True)
class Distribution:
    """Of a set of values; min, max, mean and std are those of the finite ones.

    Attributes:
        count: number of finite values.
        low: the smallest.
        high: the largest.
        total: their sum.
        squares: sum of their squares.
        zeros: how many are exactly 0.
        not_finite: number of NaN and infinities.
    """

    count: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    total: float = 0.0
    squares: float = 0.0
    zeros: int = 0
    not_finite: int = 0

    def __add__(self, other: "Distribution") -> "Distribution":
        """The distribution of both sets together."""
        return Distribution(
            self.count + other.count,
            min(self.low, other.low),
            max(self.high, other.high),
            self.total + other.total,
            self.squares + other.squares,
            self.zeros + other.zeros,
            self.not_finite + other.not_finite,
        )

    @property
    def mean(self) -> float:
        """NaN if no value is finite."""
        return self.total / self.count if self.count else float("nan")

    @property
    def std(self) -> float:
        """Standard deviation (ddof 0); NaN if no value is finite."""
        if not self.count:
            return float("nan")
        # Rounding may leave a tiny negative number where all values are equal.
        return max(0.0, self.squares / self.count - self.mean**2) ** 0.5


def distribution(values: np.ndarray) -> Distribution:
    """The distribution of an array of any shape and floating dtype."""
    flat, found = values.reshape(-1), Distribution()
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK].astype(np.float64)
        finite = block[np.isfinite(block)]
        bad = block.size - finite.size
        if finite.size:
            found += Distribution(
                finite.size,
                float(finite.min()),
                float(finite.max()),
                float(finite.sum()),
                float(finite @ finite),
                int(np.count_nonzero(finite == 0)),
                bad,
            )
        else:
            found += Distribution(not_finite=bad)
    return found


def distributions(source: Source, title: str) -> Iterator[tuple[str, Distribution]]:
    """Path and distribution of each official leaf, and of the condition of a policy folder.

    Memory holds a few layers at a time; the largest leaf without layers is the token embedding.

    Args:
        source: the checkpoint.
        title: of the progress line.
    """
    pi05 = source.info.config.pi05
    found = {leaf.path: Distribution() for leaf in leaves(pi05=pi05)}

    def work(task: tuple[Leaf, int | None]) -> Distribution:
        """Runs in a thread."""
        return distribution(source.read(*task))

    jobs = tasks(source.info.config)
    with progress_bar(title, len(jobs)) as progress:
        for done, ((leaf, _), part) in enumerate(zip(jobs, ahead(work, jobs), strict=True), 1):
            found[leaf.path] += part
            progress.update(done)
    yield from found.items()
    if source.cond_embed is not None:
        yield COND_EMBED, distribution(source.cond_embed)


def table(source: Source, title: str) -> Iterator[str]:
    """The lines of a table with a row per leaf; zeros are a share of the finite values."""
    rows = list(distributions(source, title))
    width = max(len(path) for path, _ in rows)
    yield f"{'':{width}}" + "".join(f"{name:>11}" for name in _HEADINGS)
    for path, one in rows:
        numbers = (f"{x:11.3g}" for x in (one.low, one.high, one.mean, one.std))
        share = one.zeros / one.count if one.count else float("nan")
        yield f"{path:{width}}{''.join(numbers)}{share:11.2%}{one.not_finite:11,}"
