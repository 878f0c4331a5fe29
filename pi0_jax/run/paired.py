"""Two evaluations on the same initial states with the same noise, compared state by state."""

import math
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from pi0_jax.errors import InputError
from pi0_jax.run.success import guidance_text

K = TypeVar("K", bound=Hashable)


def sign_test(won: int, lost: int) -> float:
    """Exact two-sided p value of the sign test: how often fair coins fall at least this unevenly.

    States on which both do the same say nothing of a difference and are not counted.

    Args:
        won: states that the first solves and the second does not.
        lost: the other way round.
    """
    n, k = won + lost, min(won, lost)
    tail = sum(math.comb(n, i) for i in range(k + 1))
    # Both tails; where they meet in the middle they would count it twice.
    return min(1.0, 2 * tail / 2**n)


def won_lost(here: Mapping[K, bool], there: Mapping[K, bool]) -> tuple[int, int]:
    """Numbers of states that only `here` solves, and that only `there` solves.

    Args:
        here: success by state.
        there: the same of the other; states that one of them lacks are left out.
    """
    both = here.keys() & there.keys()
    won = sum(here[state] and not there[state] for state in both)
    return won, sum(there[state] and not here[state] for state in both)


@dataclass(frozen=True)
class Paired:
    """One guidance scale against another on the same states: an entry of results.json.

    Attributes:
        phase: as in `success.Row`.
        method: as there.
        guidance: the scale.
        against: the scale that it is compared with.
        won: states that succeed at `guidance` alone.
        lost: states that succeed at `against` alone.
        reference: what guidance led away from, as in `success.Row`.
        against_reference: the same for `against`.
    """

    phase: str
    method: str
    guidance: float
    against: float
    won: int
    lost: int
    reference: str = ""
    against_reference: str = ""

    @property
    def p(self) -> float:
        """Of the sign test; not corrected for the number of scales that were tried."""
        return sign_test(self.won, self.lost)

    def __str__(self) -> str:
        """One line for the console."""
        here = guidance_text(self.guidance, self.reference)
        there = guidance_text(self.against, self.against_reference)
        return (
            f"{self.method}, guidance {here} against {there} on the same states: won {self.won}, "
            f"lost {self.lost}, p {p_text(self.p)} (sign test)"
        )

    def as_dict(self) -> dict[str, Any]:
        """The entry as it is stored in results.json."""
        return {**asdict(self), "p": self.p}


def p_text(p: float) -> str:
    """A p value for people, such as "0.015", or "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def paired_from_dict(entry: Mapping[str, Any]) -> Paired:
    """Reads what `Paired.as_dict` gave.

    Raises:
        InputError: a field is missing or is no number.
    """
    try:
        return Paired(
            phase=str(entry["phase"]),
            method=str(entry["method"]),
            guidance=float(entry["guidance"]),
            against=float(entry["against"]),
            won=int(entry["won"]),
            lost=int(entry["lost"]),
            reference=str(entry.get("reference", "")),
            against_reference=str(entry.get("against_reference", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"expected a comparison of results.json, got {entry!r}: {error!r}"
        ) from error


def against_one(
    phase: str, method: str, outcomes: Mapping[tuple[float, str], Mapping[K, bool]]
) -> list[Paired]:
    """Every guidance scale against scale 1, or against the first if 1 was not measured.

    Args:
        phase: as in `success.Row`.
        method: as there.
        outcomes: (scale, reference) -> success by state; at least one.
    """
    against = next((point for point in outcomes if point[0] == 1.0), next(iter(outcomes)))
    return [
        Paired(phase, method, scale, against[0], *won_lost(here, there), reference, against[1])
        for there in [outcomes[against]]
        for (scale, reference), here in outcomes.items()
        if (scale, reference) != against
    ]
