"""Which files are fetched: a folder's, or one file of weights with what lies beside it."""

import glob
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from pi0_jax.convert.files.known_files import ADAPTER_FILES, MATTERS, STATISTICS
from pi0_jax.convert.files.weight_files import beside_pattern

# What a policy needs, and what could change it: a file that is not fetched is overlooked. Optimizer
# state, most of a training checkpoint, is not fetched.
_WEIGHTS = (*(f"*{suffix}" for suffix in MATTERS), "*.model", "params/*", "assets/*")
# What is read beside a file of weights that is SRC itself, and what is said of it.
_BESIDE = ("*.json", "*.model", "assets/*", *STATISTICS, *ADAPTER_FILES)
_STATES = ("optimizer", "train_state/", "training_state/")
STATE_PATTERNS = [f"{start}{state}*" for state in _STATES for start in ("", "*/")]
"""Patterns of what is never fetched: the optimizer's state."""


def of_the_hub(inside: str) -> list[str]:
    """Patterns of the files that are fetched for a folder of the hub, or for one file."""
    path = PurePosixPath(inside)
    if path.suffix not in MATTERS:
        prefix = f"{inside}/" if inside else ""
        # The name itself as well: a file of another kind has an error of its own later.
        return [*(prefix + pattern for pattern in _WEIGHTS), *[inside] * bool(inside)]
    # A local file of weights has its settings, statistics and other shards beside it, too.
    prefix = inside.removesuffix(path.name)
    return [prefix + pattern for pattern in _with_what_is_beside(path.name)]


def _with_what_is_beside(name: str) -> tuple[str, ...]:
    """Patterns of a file of weights and of all that is read with it."""
    literal = glob.escape(name)
    return (literal, beside_pattern(literal), *_BESIDE)


def of_weights(files: dict[str, str], name: str) -> dict[str, str]:
    """Of a folder's files those that are read with one of weights, itself included.

    Args:
        files: path inside the folder -> address.
        name: of the file of weights; "" for all files. Where a folder has this name its files are
            returned, by their paths inside it; where nothing has, none.
    """
    if not name:
        return files
    if name not in files:
        below = f"{name}/"
        return {k.removeprefix(below): at for k, at in files.items() if k.startswith(below)}
    patterns = _with_what_is_beside(name)
    return {file: at for file, at in files.items() if _is_beside(file, patterns)}


def _is_beside(file: str, patterns: tuple[str, ...]) -> bool:
    """Whether a pattern fits; one without a slash fits in the folder itself alone."""
    if file.endswith("/norm_stats.json"):
        return True
    return any(fnmatchcase(file, p) and ("/" in p or "/" not in file) for p in patterns)


def is_state(name: str) -> bool:
    """Whether a path inside a folder is of the optimizer's state."""
    return any(f"/{state}" in f"/{name}" for state in _STATES)
