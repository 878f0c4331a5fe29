"""A checkpoint of any layout on one screen: sizes, cameras, actions, normalisation, statistics.

python -m convert.info SRC [--num-heads N] [--vision-heads N] [--asset-id ID]

No weights are read but statistics that lie among them.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pi0_jax.convert import command, jax_to_flax, torch_to_flax
from pi0_jax.convert.open_checkpoint import open_any
from pi0_jax.convert.orbax_source import OrbaxSource
from pi0_jax.convert.remote import local
from pi0_jax.convert.source import CheckpointInfo, Source, parameters
from pi0_jax.convert.statistics import FoundStats, own_width
from pi0_jax.convert.torch_config import TorchConfig
from pi0_jax.convert.torch_source import TorchSource
from pi0_jax.data.normalize import Stats
from pi0_jax.errors import InputError
from pi0_jax.model.config import Pi0Config

Rows = list[tuple[str, str]]


def main(argv: Sequence[str]) -> int:
    """Prints; returns the exit code."""
    parser = command.Parser("convert.info", description=__doc__)
    parser.add_argument("source", metavar="SRC", help="path, gs://... or hf://org/name")
    parser.add_argument("--asset-id", help="which statistics, where there are several")
    command.add_heads(parser)
    command.add_choice(parser)
    arguments = parser.parse_args(argv)
    path = local(arguments.source)
    source = open_any(path, command.heads(arguments), command.choice(arguments))
    rows = describe(source, path, arguments.asset_id)
    sys.stdout.write("".join(f"{name:<14}{text}\n" for name, text in rows))
    return 0


def describe(source: Source, path: Path, asset_id: str | None = None) -> Rows:
    """What a checkpoint is, as (name, text) rows.

    Args:
        source: the checkpoint, opened.
        path: where it lies.
        asset_id: which statistics, where there are several.
    """
    found = _statistics(source, asset_id)
    rows = [*_weights(source.info), *_sizes(source.info.config), *_robot(source, found)]
    return rows + [("note", note) for note in source.info.notes]


def _weights(facts: CheckpointInfo) -> Rows:
    return [
        ("layout", facts.layout),
        ("model", "pi0.5" if facts.config.pi05 else "pi0"),
        ("parameters", f"{parameters(facts.config):,} as {'/'.join(sorted(facts.dtypes))}"),
        ("keys", f"{len(facts.used)} used, {len(facts.unused)} known to be unused"),
        ("files", f"{len(facts.files)}"),
    ]


def _sizes(model: Pi0Config) -> Rows:
    vision = model.vision
    return [
        (
            "images",
            f"{vision.image_size} px, {vision.num_tokens} tokens each; width {vision.width}, "
            f"{vision.depth} layers, {vision.num_heads} heads",
        ),
        (
            "experts",
            f"widths {model.vlm.width} and {model.action.width}; {model.depth} layers, "
            f"{model.num_heads} query and {model.num_kv_heads} key/value heads of "
            f"{model.head_dim}",
        ),
        ("prompt", f"{model.prompt_length} tokens of {model.vocab_size:,}"),
        ("chunk", f"{model.action_horizon} actions, padded to {model.action_dim}"),
    ]


def _robot(source: Source, found: FoundStats | InputError) -> Rows:
    """Cameras, actions and how they are normalised, as far as the checkpoint says."""
    spec = source.spec if isinstance(source, OrbaxSource) else None
    declared = source.config if isinstance(source, TorchSource) else TorchConfig()
    cameras = spec.robot.cameras if spec else declared.cameras
    rows = [("cameras", ", ".join(cameras) or "not said")]
    if isinstance(found, InputError):
        return [*rows, ("statistics", f"none: {found}")]
    quantile = spec.quantile if spec else found.by_quantiles(pi05=source.info.config.pi05)
    width = len(spec.robot.actions) if spec else declared.action_dim
    width = width or own_width(found.stats.actions)
    delta = spec.delta_dims if spec else 0
    if spec and spec.model.pi05:
        rows.append(("state", "text in the prompt" if spec.state_in_prompt else "not read"))
    relative = f", the first {delta} relative to the state" if delta else ""
    return [
        *rows,
        ("actions", f"{width}{relative}"),
        ("normalisation", "1 % and 99 % quantiles" if quantile else "mean and deviation"),
        ("statistics", f"{found.where} (asset id {found.asset_id})"),
        *_table("state", found.stats.state),
        *_table("action", found.stats.actions),
    ]


def _table(name: str, stats: Stats) -> Rows:
    values = {"mean": stats.mean, "std": stats.std}
    return [(f"  {name} {label}", _line(numbers)) for label, numbers in values.items()]


def _line(numbers: np.ndarray) -> str:
    return " ".join(f"{number:.3g}" for number in numbers)


def _statistics(source: Source, asset_id: str | None) -> FoundStats | InputError:
    """The statistics, or why there are none; a description goes on without."""
    try:
        if isinstance(source, TorchSource):
            return torch_to_flax.find_statistics(source, asset_id)
        assert isinstance(source, OrbaxSource)
        wanted = asset_id or (source.spec.asset_id if source.spec else None)
        return jax_to_flax.find_statistics(source, wanted, None)
    except InputError as error:
        return error
