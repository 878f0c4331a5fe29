"""Official Orbax checkpoint -> policy folder.

python -m convert.jax_to_flax SRC DST [--dtype bfloat16|float32] [--norm-stats FILE]
    [--asset-id ID] [--overwrite]
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from pi0_jax.convert.commands import command
from pi0_jax.convert.into import statistics, to_policy
from pi0_jax.convert.into.statistics import FoundStats
from pi0_jax.convert.settings.declared import TorchConfig
from pi0_jax.convert.sources.orbax_source import OrbaxSource
from pi0_jax.errors import InputError


def main(argv: Sequence[str]) -> int:
    """Converts; returns the exit code."""
    parser = command.Parser("convert.jax_to_flax", description=__doc__)
    command.add_policy_flags(parser)
    arguments = parser.parse_args(argv)
    command.check_destination(
        arguments.source, arguments.destination, overwrite=arguments.overwrite
    )
    path = command.fetched(arguments.source)
    source = OrbaxSource(path, arguments.action_horizon)
    if source.spec is not None:
        raise InputError(f"{source.folder}: is a policy folder already; nothing to convert")
    found = find_statistics(source, arguments.asset_id, arguments.norm_stats)
    request = command.request(arguments, path, source)
    sys.stdout.write(to_policy.convert(source, found, TorchConfig(), request) + "\n")
    return 0


def find_statistics(source: OrbaxSource, asset_id: str | None, chosen: Path | None) -> FoundStats:
    """The statistics of an official checkpoint or a policy folder.

    Args:
        source: the checkpoint.
        asset_id: which, where there are several.
        chosen: a file in their place.

    Raises:
        InputError: there are none.
    """
    if chosen:
        return statistics.from_file(chosen, asset_id)
    return statistics.only([lambda: statistics.from_assets(source.folder, asset_id)], source.folder)
