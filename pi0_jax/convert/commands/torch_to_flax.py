"""Any PyTorch layout -> policy folder.

python -m convert.torch_to_flax SRC DST [--layout auto|openpi|lerobot|transformers|rlinf]
    [--dtype bfloat16|float32] [--norm-stats FILE] [--asset-id ID] [--overwrite]
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pi0_jax.convert.commands import command
from pi0_jax.convert.into import statistics, to_policy
from pi0_jax.convert.into.statistics import FoundStats
from pi0_jax.convert.sources.torch_keys import FAMILIES
from pi0_jax.convert.sources.torch_source import TorchSource


def main(argv: Sequence[str]) -> int:
    """Converts; returns the exit code."""
    parser = command.Parser("convert.torch_to_flax", description=__doc__)
    command.add_policy_flags(parser)
    command.add_heads(parser)
    command.add_choice(parser)
    parser.add_argument("--layout", choices=("auto", *FAMILIES, "rlinf"), default="auto")
    arguments = parser.parse_args(argv)
    command.check_destination(
        arguments.source,
        arguments.destination,
        overwrite=arguments.overwrite,
        base=arguments.base,
    )
    path = command.fetched(arguments.source)
    source = TorchSource(
        path,
        # RLinf has openpi's names, or its own, which are read under openpi's.
        "openpi" if arguments.layout == "rlinf" else arguments.layout,
        command.heads(arguments),
        arguments.action_horizon,
        command.choice(arguments),
    )
    request = command.request(arguments, path, source)
    found = find_statistics(source, arguments.asset_id, arguments.norm_stats)
    sys.stdout.write(to_policy.convert(source, found, source.config, request) + "\n")
    return 0


def find_statistics(source: TorchSource, asset_id: str | None, chosen: Path | None) -> FoundStats:
    """The statistics of a PyTorch checkpoint, wherever its layout keeps them.

    Args:
        source: the checkpoint.
        asset_id: which, where there are several.
        chosen: a file in their place.

    Raises:
        InputError: there are none, or they contradict each other.
    """
    config, folders = source.config, source.folders
    if chosen:
        return statistics.from_file(chosen, asset_id, config)
    return statistics.only(
        [
            lambda: statistics.from_tensors(source.tensors, config, asset_id),
            lambda: statistics.from_processors(config, asset_id),
            *(partial(statistics.from_assets, f, asset_id, config) for f in folders),
        ],
        folders[0],
    )
