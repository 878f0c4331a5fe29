"""A saved object as one flat dict of tensors: a training script may put other things beside them.

`{"model": {"a.weight": t}, "step": 3}` becomes `{"model/a.weight": t}`. Which of several sets of
weights is meant, if there are several, is decided by their names (`prefixes.py`).
"""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from pi0_jax.errors import InputError

HARMLESS = {
    "*optim*": "state of the optimizer",
    "*sched*": "state of the learning rate",
    "scaler": "state of the loss scale",
    "grad_scaler": "state of the loss scale",
    "loss_scaler": "state of the loss scale",
    "amp_scaler": "state of the loss scale",
    "*rng*": "state of random generators",
    "*random*": "state of random generators",
    "*sampler*": "state of the data loader",
    "*dataloader*": "state of the data loader",
    "callbacks": "state of the training (Lightning)",
    "loops": "state of the training (Lightning)",
    "hyper_parameters": "settings of the training (Lightning)",
    "ds_config": "settings of the training (DeepSpeed)",
    "*param_shapes": "shapes (DeepSpeed)",
    "frozen_param_fragments": "a copy of frozen weights (DeepSpeed)",
    "shared_params": "names (DeepSpeed)",
    "args": "settings of the training",
    "cfg": "settings of the training",
    "config": "settings of the training",
    "hparams": "settings of the training",
    "*metric*": "what the training measured",
    "*loss*": "what the training measured",
    "*history*": "what the training measured",
}
"""Entries beside the weights that change no policy: pattern for the name, and the reason."""

_NAMED = 8


class Contents(NamedTuple):
    """What a saved object holds.

    Attributes:
        tensors: name, with the containers it lies in, to tensor.
        beside: names of everything else; none of it changes a policy.
    """

    tensors: dict[str, Any]
    beside: list[str]


def flatten(loaded: object, file: Path) -> Contents:
    """The tensors of a saved object.

    Args:
        loaded: what the file holds.
        file: the file, for messages.

    Raises:
        InputError: no tensors, or numbers that may change the policy, such as statistics.
    """
    if not isinstance(loaded, Mapping):
        raise InputError(
            f"{file}: expected a dict of tensors (a state dict), found a {type(loaded).__name__}"
        )
    tensors: dict[str, Any] = {}
    beside: list[str] = []
    unknown: list[str] = []
    for name, value in _leaves(loaded, ""):
        if _is_tensor(value) and not _is_count(name, value):
            tensors[name] = value
        elif isinstance(value, int | float) and name.rpartition("/")[2].isdigit():
            # An entry of a list of numbers. A number with its own name is a count or a setting.
            unknown.append(name.rpartition("/")[0])
        else:
            beside.append(name)
    if not tensors:
        keys = ", ".join(map(str, list(loaded)[:_NAMED])) or "nothing"
        raise InputError(f"{file}: expected a dict of tensors (a state dict), found {keys}")
    if unknown:
        raise beside_weights(file, sorted(set(unknown)))
    return Contents(tensors, beside)


def beside_weights(file: Path, names: list[str]) -> InputError:
    """The error for entries beside the weights that nothing reads and that may matter."""
    more = ", ..." if len(names) > _NAMED else ""
    return InputError(
        f"{file}: holds {', '.join(names[:_NAMED])}{more} beside the weights, which may change the "
        "policy; if it does not, save the weights alone with torch.save and convert that file"
    )


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every entry that is no container, and every container that is known to be harmless."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, item in items:
        path = f"{name}/{key}" if name else str(key)
        if not isinstance(item, Mapping | list | tuple) or _harmless(str(key)):
            yield path, item
        else:
            yield from _leaves(item, path)


def _harmless(name: str) -> bool:
    return any(fnmatchcase(name.lower(), pattern) for pattern in HARMLESS)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach")


def _is_count(name: str, tensor: Any) -> bool:
    # `step` and `epoch` may be tensors too; a weight has a dot in its name.
    return not tensor.shape and "." not in name
