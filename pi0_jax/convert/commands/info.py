"""A checkpoint of any layout on one screen: sizes, robot, cameras, normalisation, what is unread.

python -m convert.info SRC            what a checkpoint is, or what a converter would make of it
python -m convert.info SRC --values   and how the values of each group of parameters lie

Without --values no weights are read but statistics that lie among them. The flags are those of the
converters: what they do to the policy is shown before anything is written.
"""

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pi0_jax.convert.commands import command
from pi0_jax.convert.commands.as_policy import AsPolicy, add_flags, as_policy, check_flags
from pi0_jax.convert.compare import value_table
from pi0_jax.convert.files.remote import local
from pi0_jax.convert.into.to_policy import action_text, camera_text, normalisation_text
from pi0_jax.convert.sources.open_checkpoint import open_any
from pi0_jax.convert.sources.orbax_source import OrbaxSource
from pi0_jax.convert.sources.source import CheckpointInfo, Source, parameters
from pi0_jax.convert.sources.torch_source import TorchSource
from pi0_jax.data.sentencepiece_file import load_pieces
from pi0_jax.errors import InputError, some
from pi0_jax.model.config import Pi0Config
from pi0_jax.policy.folder import TOKENIZER_FILE
from pi0_jax.policy.spec import PolicySpec

Rows = list[tuple[str, str]]
# Other files that are named; a cache may have hundreds.
_MOST_FILES = 12


def main(argv: Sequence[str]) -> int:
    """Prints; returns the exit code."""
    parser = command.Parser("convert.info", description=__doc__)
    parser.add_argument("--values", action="store_true", help="read all weights, for a table")
    add_flags(parser)
    parser.add_argument("source", metavar="SRC", help="path, gs://... or hf://org/name")
    command.add_heads(parser)
    command.add_choice(parser)
    arguments = parser.parse_args(argv)
    path = local(arguments.source)
    source = open_any(
        path, command.heads(arguments), command.choice(arguments), arguments.action_horizon
    )
    check_flags(arguments, [source])
    try:
        found: AsPolicy | InputError = as_policy(source, path, arguments)
    except InputError as error:
        # What can be said without it is said; a converter would stop here.
        found = error
    sys.stdout.write("".join(f"{name:<14}{text}\n" for name, text in describe(source, path, found)))
    if arguments.values:
        sys.stdout.writelines(f"{line}\n" for line in value_table.table(source, arguments.source))
    return 0


def describe(source: Source, path: Path, found: AsPolicy | InputError) -> Rows:
    """What a checkpoint is, as (name, text) rows.

    Args:
        source: the checkpoint, opened.
        path: where it lies.
        found: the policy, or why a converter would refuse the checkpoint.
    """
    facts = source.info
    rows = [*_weights(facts), *_files(facts, path), *_sizes(facts.config)]
    if isinstance(found, InputError):
        rows += [*_said(source), ("not usable", str(found))]
        return rows + [("note", note) for note in facts.notes]
    return [*rows, *_policy(found), *(("note", note) for note in found.notes)]


def _said(source: Source) -> Rows:
    """What the files say of the robot, where that is not enough for a policy."""
    if isinstance(source, OrbaxSource) and source.spec is not None:
        return _robot(source.spec)
    cameras = source.config.cameras if isinstance(source, TorchSource) else ()
    return [("cameras", ", ".join(cameras) or "not said")]


def _weights(facts: CheckpointInfo) -> Rows:
    reasons: dict[str, list[str]] = defaultdict(list)
    for key, reason in facts.unused.items():
        reasons[reason].append(key)
    unread = [("unread", f"{some(keys, 3)}: {reason}") for reason, keys in reasons.items()]
    return [
        ("layout", facts.layout),
        ("model", "pi0.5" if facts.config.pi05 else "pi0"),
        ("parameters", f"{parameters(facts.config):,} as {'/'.join(sorted(facts.dtypes))}"),
        ("keys", f"{len(facts.used)} used, {len(facts.unused)} known to be unused"),
        *unread,
    ]


def _files(facts: CheckpointInfo, path: Path) -> Rows:
    size = sum(file.stat().st_size for file in facts.files)
    rows = [("files", f"{len(facts.files)} of weights, {size:,} bytes")]
    if path.is_dir():
        weights = {file.resolve() for file in facts.files}
        rest = sorted(
            str(file.relative_to(path))
            for file in path.rglob("*")
            if file.is_file() and file.resolve() not in weights
        )
        rows += [("beside them", some(rest, _MOST_FILES))] * bool(rest)
    return rows


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


def _robot(spec: PolicySpec) -> Rows:
    robot, rows = spec.robot, []
    if spec.model.pi05:
        rows = [("state", "text in the prompt" if spec.state_in_prompt else "not read")]
    return [
        ("robot", f"{robot.name}, {len(robot.state)} values of state"),
        ("cameras", camera_text(robot)),
        ("actions", action_text(spec)),
        *rows,
        ("executed", f"{spec.execute_steps} actions of each chunk"),
        ("normalisation", normalisation_text(spec)),
    ]


def _policy(policy: AsPolicy) -> Rows:
    """What surrounds the network."""
    found = policy.found
    return [
        *_robot(policy.spec),
        ("statistics", f"{found.where} (asset id {found.asset_id})"),
        *_statistics(policy),
        ("tokenizer", _tokenizer(policy)),
    ]


def _tokenizer(policy: AsPolicy) -> str:
    if policy.spec.tokenizer != "paligemma":
        return policy.spec.tokenizer
    file = policy.folder / TOKENIZER_FILE
    if not file.exists():
        return f"paligemma; {TOKENIZER_FILE} is missing, without which the policy cannot act"
    try:
        pieces = load_pieces(file, policy.spec.model.vocab_size)
    except InputError as error:
        return f"paligemma, not usable: {error}"
    return f"paligemma, {TOKENIZER_FILE} of {pieces.vocab_size():,} pieces"


def _statistics(policy: AsPolicy) -> Rows:
    """The numbers that the policy normalises with, in the robot's own dimensions."""
    fields = ("q01", "q99") if policy.spec.quantile else ("mean", "std")
    robot, stats = policy.spec.robot, policy.found.stats
    parts = {"state": (stats.state, robot.state), "action": (stats.actions, robot.actions)}
    return [
        (f"  {name} {field}", _line(getattr(part, field)[: len(dimensions)]))
        for name, (part, dimensions) in parts.items()
        for field in fields
    ]


def _line(numbers: np.ndarray) -> str:
    return " ".join(f"{number:.3g}" for number in numbers)
