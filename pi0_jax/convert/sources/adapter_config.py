"""What PEFT's adapter_config.json says: how strongly the factors count, and nothing unread.

A low-rank adapter (LoRA) adds `scale B A` to a weight. Settings that make it something else, such
as DoRA, are refused by their names; so is every setting that is not known here, unless it is off.
"""

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pi0_jax.errors import InputError
from pi0_jax.lfs import refuse_pointer

_USED = (
    *("peft_type", "base_model_name_or_path", "r", "lora_alpha", "use_rslora"),
    *("rank_pattern", "alpha_pattern", "init_lora_weights", "modules_to_save"),
)
HARMLESS = {
    "auto_mapping": "the class of the model",
    "task_type": "the class of the model",
    "peft_version": "who wrote it",
    "revision": "of the base, which the user gives",
    "inference_mode": "whether the factors were trained on",
    "target_modules": "which weights have factors; the tensors show it",
    "exclude_modules": "which weights have none; the tensors show it",
    "layers_to_transform": "which layers have factors; the tensors show it",
    "layers_pattern": "which layers have factors; the tensors show it",
    "bias": "whether biases are replaced; they are in the file",
    "lora_dropout": "of the training",
    "runtime_config": "where the training computed",
    "megatron_core": "of another library, whose megatron_config has to be off",
    "qalora_group_size": "of use_qalora, which has to be off",
    "eva_config": "how the factors began",
    "corda_config": "how the factors began; init_lora_weights says whether they did",
    "loftq_config": "how the factors began; init_lora_weights says whether they did",
}
"""Settings that need no reading, with the reason."""

# Beginnings that leave the base weights as they are. PiSSA, OLoRA, LoftQ and CorDA change them.
_BEGINNINGS = (True, False, "gaussian", "orthogonal", "eva")


@dataclass(frozen=True)
class AdapterConfig:
    """How strongly the factors of an adapter count.

    Attributes:
        path: the file.
        base: what the file calls the base weights; None if it does not say.
        rank: r of every weight without an entry in `ranks`.
        alpha: alpha of every weight without an entry in `alphas`.
        rslora: whether the scale is alpha / sqrt(r) instead of alpha / r.
        ranks: pattern of a module's name to its r.
        alphas: pattern of a module's name to its alpha.
        saved: names of modules that the adapter replaces.
        targets: pattern of the names of modules that have factors; None if they are chosen by
            their last name, in every layer.
        some_layers: whether only some layers have factors.
    """

    path: Path
    base: str | None
    rank: int
    alpha: float
    rslora: bool
    ranks: dict[str, int] = field(default_factory=dict)
    alphas: dict[str, float] = field(default_factory=dict)
    saved: tuple[str, ...] = ()
    targets: str | None = None
    some_layers: bool = False

    def has_factors(self, module: str) -> bool:
        """Whether a module has factors, if the same module of another layer has some."""
        if self.some_layers:
            return False
        return self.targets is None or re.fullmatch(self.targets, module) is not None

    def scale(self, module: str, rank: int) -> float:
        """The factor before `B A` of a module, whose factors have that rank.

        Raises:
            InputError: the file gives it another rank.
        """
        expected = _match(self.ranks, module, self.rank)
        if rank != expected or not rank:
            raise InputError(f"{self.path}: r of {module} is {expected}, its tensors have {rank}")
        alpha = _match(self.alphas, module, self.alpha)
        return alpha / (math.sqrt(rank) if self.rslora else rank)


def read_adapter_config(path: Path) -> AdapterConfig:
    """Reads an adapter_config.json.

    Raises:
        InputError: no such file, one that cannot be read, or a setting that is not known.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: expected this file, because PEFT's layers need its r and lora_alpha; put it "
            "there, or merge them with PEFT (merge_and_unload)"
        )
    refuse_pointer(path)
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        _check(values, path)
        return AdapterConfig(
            path=path,
            base=values.get("base_model_name_or_path"),
            rank=int(values["r"]),
            alpha=float(values["lora_alpha"]),
            rslora=bool(values.get("use_rslora")),
            ranks=_numbers(values.get("rank_pattern"), int),
            alphas=_numbers(values.get("alpha_pattern"), float),
            saved=tuple(values.get("modules_to_save") or ()),
            targets=targets if isinstance(targets := values.get("target_modules"), str) else None,
            some_layers=any(values.get(key) for key in ("layers_to_transform", "exclude_modules")),
        )
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: cannot read this adapter's config: {error!r}") from error


def _check(values: dict[str, Any], path: Path) -> None:
    if values["peft_type"] != "LORA":
        raise InputError(
            f"{path}: peft_type {values['peft_type']} is not LORA, the only one that pi0_jax "
            "merges; merge it with PEFT (merge_and_unload) and convert the result"
        )
    # False, null and an empty list mean that a setting is off.
    on = sorted(k for k in values.keys() - {*_USED} - HARMLESS.keys() if values[k])
    if values.get("init_lora_weights", True) not in _BEGINNINGS:
        on.append("init_lora_weights")
    if on:
        text = ", ".join(f"{key} {values[key]!r}" for key in on)
        raise InputError(
            f"{path}: {text}: pi0_jax merges plain LoRA only; merge it with PEFT "
            "(merge_and_unload) and convert the result"
        )


def _match(patterns: dict[str, Any], module: str, default: Any) -> Any:
    """The value of the first pattern that is the end of a module's name, as PEFT compares."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def _numbers(patterns: Any, kind: type) -> dict[str, Any]:
    """Patterns with their numbers.

    Raises:
        ValueError: a pattern that is none, or a value that is no number.
    """
    found = {pattern: kind(value) for pattern, value in dict(patterns or {}).items()}
    for pattern in found:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"pattern {pattern!r}: {error}") from error
    return found
