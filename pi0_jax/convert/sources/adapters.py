"""PEFT's low-rank adapters merged into the weights that they were trained on.

A weight W becomes `W + scale B A`, in float32, because a small difference would be rounded away in
bfloat16; it is rounded once, when it is written. Every tensor of the adapter is used, or is one
that no forward pass reads, or is an error.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from pi0_jax.convert.files.torch_files import Tensors
from pi0_jax.convert.sources.adapter_config import AdapterConfig
from pi0_jax.convert.sources.prefixes import PEFT, Renamed, without_wrappers
from pi0_jax.errors import InputError, some
from pi0_jax.io import tree_check

_FACTOR, _SAVED, _ORIGINAL, _BASE = (
    ".lora_",
    ".modules_to_save.",
    ".original_module.",
    ".base_layer.",
)
_LAYER = r"\.layers\.\d+\."
_KINDS = ("A", "B", "embedding_A", "embedding_B")
_OPTIONAL_LEVEL = ("vision_tower.vision_model.", "vision_tower.")
_WORDS_OUT = "an adapter of the output words, which pi0 does not predict"


class Factors(NamedTuple):
    """The two factors of a weight's adapter.

    Attributes:
        a: key of A, [rank, inputs] (of an embedding: [rank, words]).
        b: key of B, [outputs, rank].
        scale: how strongly they count.
        transposed: whether the weight is (B A) transposed, as an embedding is.
    """

    a: str
    b: str
    scale: float
    transposed: bool


@dataclass(frozen=True)
class Merging:
    """What an adapter does to its base, by keys.

    Attributes:
        factors: key of a weight to its factors.
        replaced: key of a weight to the adapter's tensor that takes its place.
        unread: keys of the adapter that no forward pass reads, with the reason.
    """

    factors: dict[str, Factors] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)

    def note(self) -> str:
        """What was done."""
        text = f"{len(self.factors)} adapters merged"
        if self.replaced:
            text += f", {len(self.replaced)} tensors replaced by the adapter's"
        return text


class Merged:
    """`Tensors` of a base with an adapter merged."""

    def __init__(self, base: Tensors, adapter: Tensors, merging: Merging):
        """Reads no values yet."""
        self._base, self._adapter, self._merging = base, adapter, merging
        self.files = list(dict.fromkeys(base.files + adapter.files))
        self.metadata, self.beside = base.metadata, base.beside
        new = merging.replaced.items()
        self.shapes = base.shapes | {key: adapter.shapes[own] for key, own in new}
        self.dtypes = base.dtypes | {key: adapter.dtypes[own] for key, own in new}

    def read(self, key: str) -> np.ndarray:
        """The values of one tensor; float32 where an adapter was added."""
        if key in self._merging.replaced:
            return self._adapter.read(self._merging.replaced[key])
        values = self._base.read(key)
        factors = self._merging.factors.get(key)
        if factors is None:
            return values
        a, b = (self._adapter.read(k).astype(np.float32) for k in (factors.a, factors.b))
        # The kernel of a convolution is flat in the product: [out, rank] @ [rank, in y x].
        delta = b.reshape(len(b), -1) @ a.reshape(len(a), -1)
        delta = delta.T if factors.transposed else delta
        return values.astype(np.float32) + np.float32(factors.scale) * delta.reshape(values.shape)


def has_layers(tensors: Tensors) -> bool:
    """Whether a whole model was saved with PEFT's layers in it."""
    marks = (_FACTOR, _SAVED, _BASE)
    return any(mark in f"{key}." for key in tensors.shapes for mark in marks)


def apart(tensors: Tensors) -> tuple[Tensors, Tensors]:
    """A model with PEFT's layers in it as its base and its adapter."""
    base, adapter = {}, {}
    for key in tensors.shapes:
        if _FACTOR in key or _SAVED in key:
            adapter[key] = key
        else:
            base[key.replace(_BASE, ".").replace(_ORIGINAL, ".")] = key
    return Renamed(tensors, base), Renamed(tensors, adapter)


def merge(base: Tensors, adapter: Tensors, config: AdapterConfig) -> Merging:
    """Finds the weight of every tensor of an adapter.

    Args:
        base: the weights, under their layout's names.
        adapter: the factors, as PEFT names them.
        config: how strongly they count.

    Raises:
        InputError: a tensor of no weight, of a wrong shape, or of another kind than LoRA.
    """
    names = without_wrappers(adapter.shapes, config.path.parent)
    _check_complete(list(names), adapter, config)
    pairs: dict[str, dict[str, str]] = defaultdict(dict)
    merging, known = Merging(), _short_names(base)
    adapters: set[str] = set()
    for name, key in names.items():
        plain = name.removeprefix(PEFT)
        if _FACTOR not in plain:
            _replace(merging, _without_saved(plain, adapters), key, known)
            continue
        module, _, rest = plain.rpartition(_FACTOR)
        # `A.weight` in an adapter's own file, `A.NAME.weight` inside a model; an embedding's
        # factors have no `weight`.
        kind, *more = rest.removesuffix(".weight").split(".")
        if kind not in _KINDS or len(more) > 1 or more == ["bias"]:
            raise InputError(f"{config.path.parent}: {key} is no factor of plain LoRA")
        adapters |= {*more}
        pairs[module][kind] = key
    if len(adapters) > 1:
        names = " and ".join(sorted(adapters))
        raise InputError(f"{config.path.parent}: several adapters, {names}; merge one with PEFT")
    for module, own in pairs.items():
        _pair(merging, module, own, known, (base, adapter), config)
    _check_used(merging, adapter, config)
    _check_layers(merging, base, config)
    _check_biases(merging, base, config)
    return merging


def _check_biases(merging: Merging, base: Tensors, config: AdapterConfig) -> None:
    """Checks that an adapter which trained biases holds them.

    Raises:
        InputError: it lacks one.
    """
    beside = {f"{key.removesuffix('.weight')}.bias" for key in merging.factors}
    trained = {"none": set(), "lora_only": beside, "all": base.shapes.keys()}[config.bias]
    biases = {key for key in base.shapes.keys() & trained if key.endswith(".bias")}
    if lost := sorted(biases - merging.replaced.keys()):
        raise InputError(
            f"{config.path}: bias is {config.bias!r}, and the adapter does not hold "
            f"{some(lost, 1)}; fetch it again"
        )


def _check_layers(merging: Merging, base: Tensors, config: AdapterConfig) -> None:
    """Checks that a module with factors in one layer has them in every layer.

    Raises:
        InputError: a layer without factors that the config does not leave out.
    """
    kinds = {re.sub(_LAYER, ".layers.N.", key) for key in merging.factors}
    lost = [
        key
        for key in base.shapes
        if key not in merging.factors
        and re.sub(_LAYER, ".layers.N.", key) in kinds
        and config.has_factors(key.removesuffix(".weight"))
    ]
    if lost:
        raise InputError(
            f"{config.path.parent}: the adapter has no factors for {lost[0]}, though for the same "
            "weight of other layers; fetch it again"
        )


def _without_saved(name: str, adapters: set[str]) -> str:
    """`head.modules_to_save.NAME.weight`, as inside a model, is `head.weight` in an adapter."""
    module, found, rest = name.partition(_SAVED)
    if not found:
        return name.replace(_BASE, ".")
    adapter, _, tensor = rest.partition(".")
    adapters.add(adapter)
    return f"{module}.{tensor}"


def _short_names(base: Tensors) -> dict[str, str]:
    """Every name by which an adapter may call a weight of the base, to its key."""
    found = {key.replace(*_OPTIONAL_LEVEL): key for key in base.shapes}
    # An adapter may be trained inside lerobot's class, whose names begin with `model.`, and its
    # base be openpi's file; or the reverse.
    for short, key in list(found.items()):
        for name in (f"model.{short}", short.removeprefix("model.")):
            found.setdefault(name, key)
    return found


def _replace(merging: Merging, name: str, key: str, known: dict[str, str]) -> None:
    weight = known.get(name.replace(*_OPTIONAL_LEVEL))
    if "lm_head" in name.split("."):
        merging.unread[key] = _WORDS_OUT
    elif weight is not None:
        merging.replaced[weight] = key


def _pair(
    merging: Merging,
    module: str,
    own: dict[str, str],
    known: dict[str, str],
    tensors: tuple[Tensors, Tensors],
    config: AdapterConfig,
) -> None:
    """Adds the factors of one module.

    Raises:
        InputError: one of the two is missing, or they do not fit the weight.
    """
    if module.split(".")[-1] == "lm_head":
        # It may be stored as the token embedding too, which the adapter does not change.
        merging.unread.update(dict.fromkeys(own.values(), _WORDS_OUT))
        return
    transposed = any(kind.startswith("embedding") for kind in own)
    wanted = _KINDS[2:] if transposed else _KINDS[:2]
    if sorted(own) != sorted(wanted):
        raise InputError(f"{config.path.parent}: {module} has one of two factors: {own}")
    weight = known.get(f"{module}.weight".replace(*_OPTIONAL_LEVEL))
    if weight is None:
        return
    base, adapter = tensors
    (key_a, key_b), shape = (own[kind] for kind in wanted), base.shapes[weight]
    a, b = adapter.shapes[key_a], adapter.shapes[key_b]
    expected = (b[0], *a[1:])
    if transposed:
        expected = expected[::-1]
    if a[0] != b[1] or expected != shape:
        raise InputError(
            f"{config.path.parent}: {key_a} {list(a)} and {key_b} {list(b)} do not fit {weight} "
            f"{list(shape)}; is this its base?"
        )
    merging.factors[weight] = Factors(key_a, key_b, config.scale(module, a[0]), transposed)


def _check_complete(names: list[str], adapter: Tensors, config: AdapterConfig) -> None:
    """Checks that an adapter has what its config says, in numbers that can be added.

    Args:
        names: of its tensors, plain.
        adapter: the tensors.
        config: what it says.

    Raises:
        InputError: it has no factors, lacks a module, or has other numbers.
    """
    where = config.path.parent
    if not any(_FACTOR in name for name in names):
        raise InputError(f"{where}: this adapter has no factors (lora_A, lora_B); fetch it again")
    parts = {part for name in names for part in name.split(".")}
    lost = [name for name in config.saved if name.split(".")[-1] not in parts]
    if lost:
        raise InputError(
            f"{where}: {config.path.name} says that the adapter replaces {', '.join(lost)} "
            "(modules_to_save), which it does not hold; fetch it again"
        )
    if problems := tree_check.dtypes(_but_float64(adapter.dtypes)):
        tree_check.fail(where, problems)


def _but_float64(dtypes: Mapping[str, str]) -> dict[str, str]:
    # Factors are rounded to float32 once; a replaced tensor is checked as a weight.
    return {key: dtype for key, dtype in dtypes.items() if dtype != "float64"}


def _check_used(merging: Merging, adapter: Tensors, config: AdapterConfig) -> None:
    used = {key for factors in merging.factors.values() for key in factors[:2]}
    left = adapter.shapes.keys() - used - {*merging.replaced.values()} - merging.unread.keys()
    if left:
        raise InputError(
            f"{config.path.parent}: {len(left)} tensors of the adapter belong to no weight of the "
            f"base, such as {some(sorted(left), 3)}; is it the one that the adapter was trained on?"
        )
