"""The points of a guidance sweep: a scale, and the reference that it leads away from."""

from collections.abc import Iterable
from dataclasses import dataclass

from pi0_jax.policy.reference import UNCONDITIONAL


@dataclass(frozen=True)
class Guidance:
    """How a policy is guided in one evaluation: v_ref + scale (v - v_ref).

    Attributes:
        scale: guidance scale.
        reference: kind of the reference (`policy.reference.KINDS`); "" at scale 1, where none is
            run, so that all references share this point.
    """

    scale: float
    reference: str = ""

    @property
    def suffix(self) -> str:
        """Ends the names of its files: "1.5", "1.5_base"."""
        other = self.reference not in ("", UNCONDITIONAL)
        return f"{self.scale:g}_{self.reference}" if other else f"{self.scale:g}"

    def __str__(self) -> str:
        """For messages: "guidance 1.5 from base"."""
        away = f" from {self.reference}" if self.reference else ""
        return f"guidance {self.scale:g}{away}"


PLAIN = Guidance(1.0)
"""The policy as it is."""


def sweep(scales: Iterable[float], references: Iterable[str]) -> tuple[Guidance, ...]:
    """Every scale with every reference, each point once."""
    scales = tuple(scales)
    points = (
        PLAIN if scale == 1.0 else Guidance(scale, reference)
        for reference in references
        for scale in scales
    )
    return tuple(dict.fromkeys(points))


def strongest(points: Iterable[Guidance]) -> Guidance | None:
    """The point of the largest scale above 1, the first of several; None if there is none."""
    return max((p for p in points if p.scale > 1), key=lambda point: point.scale, default=None)
