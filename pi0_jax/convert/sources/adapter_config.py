"""What PEFT's adapter_config.json says: how strongly the factors count, and nothing unread.

A low-rank adapter (LoRA) adds `scale B A` to a weight. Settings that make it something else, such
as DoRA, are refused by their names; so is every setting that is not known here, unless it is off.
"""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pi0_jax.convert.settings.kinds import (
    BOOL,
    COUNT,
    COUNTS,
    NUMBER,
    OF_NUMBERS,
    OF_WHOLES,
    TEXT,
    TEXTS,
    WHOLE,
    either,
    misfits,
)
from pi0_jax.errors import InputError
from pi0_jax.json_file import read_object

_USED = {
    "peft_type": TEXT,
    "base_model_name_or_path": TEXT,
    "r": WHOLE,
    "lora_alpha": NUMBER,
    "use_rslora": BOOL,
    "rank_pattern": OF_WHOLES,
    "alpha_pattern": OF_NUMBERS,
    "init_lora_weights": either(BOOL, TEXT),
    "modules_to_save": TEXTS,
    "target_modules": either(TEXT, TEXTS),
    "exclude_modules": either(TEXT, TEXTS),
    "layers_to_transform": either(COUNT, COUNTS),
    "bias": TEXT,
}
"""Setting that is read to the kind of its values."""

HARMLESS = {
    "auto_mapping": "the class of the model",
    "task_type": "the class of the model",
    "peft_version": "who wrote it",
    "revision": "of the base, which the user gives",
    "inference_mode": "whether the factors were trained on",
    "layers_pattern": "which layers have factors; the tensors show it",
    "lora_dropout": "of the training",
    "runtime_config": "where the training computed",
    "megatron_core": "of another library, whose megatron_config has to be off",
    "qalora_group_size": "of use_qalora, which has to be off",
    "eva_config": "how the factors began",
    "corda_config": "how the factors began; init_lora_weights says whether they did",
    "loftq_config": "how the factors began; init_lora_weights says whether they did",
}
"""Settings that need no reading, with the reason."""

_NEEDED = ("peft_type", "r", "lora_alpha")
# Beginnings that leave the base weights as they are. PiSSA, OLoRA, LoftQ and CorDA change them.
_BIASES = ("none", "all", "lora_only")
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
        bias: which biases the adapter replaces: "none", "all", or "lora_only" for those of modules
            that have factors.
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
    bias: str = "none"

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
    values = read_object(path)
    _check(values, path)
    return AdapterConfig(
        path=path,
        base=values.get("base_model_name_or_path"),
        rank=values["r"],
        alpha=values["lora_alpha"],
        rslora=bool(values.get("use_rslora")),  # null is off
        ranks=values.get("rank_pattern") or {},
        alphas=values.get("alpha_pattern") or {},
        saved=tuple(values.get("modules_to_save") or ()),
        targets=targets if isinstance(targets := values.get("target_modules"), str) else None,
        some_layers=any(
            values.get(key) not in (None, [], "")
            for key in ("layers_to_transform", "exclude_modules")
        ),
        bias=values.get("bias") or "none",
    )


def _check(values: dict[str, Any], path: Path) -> None:
    """Checks that every setting is known, of its kind, and leaves plain LoRA what it is.

    Raises:
        InputError: it is not.
    """
    if values.get("peft_type", "LORA") != "LORA":
        raise InputError(
            f"{path}: peft_type {values['peft_type']!r:.40} is not LORA, the only one that pi0_jax "
            "merges; merge it with PEFT (merge_and_unload) and convert the result"
        )
    found = [f"{key} is missing" for key in _NEEDED if values.get(key) is None]
    found += misfits(values, _USED) + _bad_patterns(values)
    if (bias := values.get("bias") or "none") not in _BIASES:
        found.append(f"bias is {bias!r:.40}, expected {', '.join(_BIASES)}")
    if found:
        raise InputError(f"{path}: {'; '.join(found)}; is this PEFT's file of the adapter?")
    # False, null and an empty list mean that a setting is off.
    on = sorted(k for k in values.keys() - _USED.keys() - HARMLESS.keys() if values[k])
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


def _bad_patterns(values: dict[str, Any]) -> list[str]:
    """Texts that PEFT takes for patterns of a module's name, and that are none."""
    patterns = {name: values.get(name) for name in ("rank_pattern", "alpha_pattern")}
    texts = [(name, text) for name, of in patterns.items() if isinstance(of, dict) for text in of]
    if isinstance(targets := values.get("target_modules"), str):
        texts.append(("target_modules", targets))
    found = []
    for name, text in texts:
        try:
            re.compile(text)
        except re.error as error:
            found.append(f"{name} has {text!r}, which is no pattern: {error}")
    return found
