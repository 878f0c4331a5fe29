"""The methods of a run by name, what has a name beside them, and whose checkpoints lie where."""

from pathlib import Path

BASE, RIPT = "base", "ript"
"""Methods that share `checkpoints/`: RIPT continues from base. A baseline has its own folder."""

DEMONSTRATIONS, EVALUATIONS = "demonstrations", "eval"
"""What lies in `episodes/` beside the rollouts of each method."""

CHECKPOINTS = "checkpoints"


def checkpoints_of(run: Path, method: str) -> Path:
    """Folder of a method's checkpoints: `checkpoints/`, or one of its own for a baseline."""
    own = method in (BASE, RIPT)
    return run / ("." if own else f"baselines/{method}") / CHECKPOINTS


def method_of(run: Path, checkpoints: Path) -> str:
    """The method of a folder of checkpoints; of the one that two share, it is RIPT."""
    return RIPT if checkpoints.parent == run else checkpoints.parent.name
