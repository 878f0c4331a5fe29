"""A checkpoint of any layout as the policy that a converter would make of it, unwritten."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from pi0_jax.convert.commands import command, jax_to_flax, torch_to_flax
from pi0_jax.convert.into import policy_choice, write_params
from pi0_jax.convert.into.statistics import FoundStats
from pi0_jax.convert.settings.declared import TorchConfig
from pi0_jax.convert.sources.orbax_source import OrbaxSource, spec_of
from pi0_jax.convert.sources.source import Source
from pi0_jax.convert.sources.torch_source import TorchSource
from pi0_jax.errors import InputError
from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.policy.spec import PolicySpec


@dataclass(frozen=True)
class AsPolicy:
    """A policy whose weights are not read yet.

    Attributes:
        source: the weights.
        spec: what config.json of the policy folder says, or would say.
        found: statistics, and where they are.
        notes: what is assumed because no file says it.
    """

    source: Source
    spec: PolicySpec
    found: FoundStats
    notes: list[str]

    @property
    def folder(self) -> Path:
        """Where the checkpoint lies; its tokenizer counts, if it has one."""
        return self.source.folder

    def loaded(self, params: dict[str, Any]) -> PolicyFolder:
        """The policy with these parameters."""
        return PolicyFolder(self.spec, params, self.found.stats, self.folder)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags by which a converter is told what the files do not say."""
    command.add_settings(parser)
    # What `command.request` asks for, and nobody needs who writes nothing.
    parser.set_defaults(source="", destination=Path(), dtype=None, overwrite=False)


def check_flags(arguments: argparse.Namespace, sources: Sequence[Source]) -> None:
    """Checks that flags of `add_flags` are given only if there is a checkpoint that they describe.

    Raises:
        InputError: all are policy folders, which say everything themselves.
    """
    parser = argparse.ArgumentParser()
    command.add_settings(parser)
    defaults = vars(parser.parse_args([]))
    given = [name for name, value in defaults.items() if getattr(arguments, name) != value]
    if given and all(_is_policy(source) for source in sources):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise InputError(f"{flags}: a policy folder says this itself; leave it out")


def as_policy(source: Source, path: Path, arguments: argparse.Namespace) -> AsPolicy:
    """What a converter would make of a checkpoint; of a policy folder, what it is.

    Args:
        source: the checkpoint, opened.
        path: what the user gave.
        arguments: with the flags of `add_flags`; a policy folder needs none of them.

    Raises:
        InputError: as the converter: statistics are missing, or a setting does not fit.
    """
    if _is_policy(source):
        spec = spec_of(source)
        found = jax_to_flax.find_statistics(source, spec.asset_id, None)
        return AsPolicy(source, spec, found, source.info.notes)
    request = command.request(arguments, path, source)
    found, declared = _statistics(source, arguments)
    dtype = write_params.lossless(source.info.dtypes)
    spec = policy_choice.policy_spec(source, found, declared, request, dtype)
    found, changed = policy_choice.usable(found, spec, request)
    notes = source.info.notes + changed + policy_choice.assumed(found, declared, request, spec)
    return AsPolicy(source, spec, found, notes)


def _is_policy(source: Source) -> TypeGuard[OrbaxSource]:
    return isinstance(source, OrbaxSource) and source.spec is not None


def _statistics(source: Source, arguments: argparse.Namespace) -> tuple[FoundStats, TorchConfig]:
    chosen, asset_id = arguments.norm_stats, arguments.asset_id
    if isinstance(source, OrbaxSource):
        return jax_to_flax.find_statistics(source, asset_id, chosen), TorchConfig()
    assert isinstance(source, TorchSource)
    return torch_to_flax.find_statistics(source, asset_id, chosen), source.config
