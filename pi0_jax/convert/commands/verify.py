"""Compares a checkpoint of any layout with reference outputs, or with another checkpoint.

python -m convert.verify POLICY --io FILE.npz        the arrays of a golden file, stage by stage
python -m convert.verify POLICY --against POLICY_B   the same inputs and noise through both

`--against` compares the networks stage by stage, then the policies end to end: raw pictures, state
and instruction to actions in the robot's units. A checkpoint that is no policy folder is taken as
a converter would take it, with the converter's flags for what its files do not say. Settings and
statistics that differ are listed by name. Actions are in deviations of the first one's statistics.

Prints JSON: the largest error of each stage and its tolerance. Exit code 1 if one is above its
tolerance. Everything is computed in float32 at the highest matrix precision, on the weights as
stored.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pi0_jax.convert.commands import command, end_to_end
from pi0_jax.convert.commands.as_policy import AsPolicy, add_flags, as_policy, check_flags
from pi0_jax.convert.commands.spec_differences import differences
from pi0_jax.convert.compare import compare_networks
from pi0_jax.convert.files.remote import local
from pi0_jax.convert.sources.open_checkpoint import open_any
from pi0_jax.convert.sources.source import Source

_LINE = 160  # characters

# Of what surrounds the network: nothing of it depends on the dtype of the weights.
_TRANSFORMS = {
    "images": 0.0,
    "normalised_state": end_to_end.TRANSFORM_TOLERANCE,
    "prompts": 0.0,
    "same_chunk_in_robot_units": end_to_end.TRANSFORM_TOLERANCE,
}


def main(argv: Sequence[str]) -> int:
    """Verifies; returns the exit code."""
    arguments = _parse(argv)
    path, source = _open(arguments.policy, arguments)
    if arguments.io:
        golden = compare_networks.read_golden(arguments.io)
        report = compare_networks.against_golden(source, golden)
    else:
        there, other = _open(arguments.against, arguments)
        if arguments.network_only:
            report = compare_networks.against_network(source, other, arguments.seed)
        else:
            check_flags(arguments, [source, other])
            a, b = as_policy(source, path, arguments), as_policy(other, there, arguments)
            report = against_policy(a, b, arguments.seed)
    sys.stdout.write(_json(report) + "\n")
    return 0 if report["ok"] else 1


def against_policy(a: AsPolicy, b: AsPolicy, seed: int) -> dict[str, Any]:
    """Compares two networks, and both policies end to end on the same raw observations and noise.

    Args:
        a: the first policy; its statistics give the states and the unit of errors.
        b: the second one.
        seed: of all inputs.

    Returns:
        The report as JSON values.

    Raises:
        InputError: different architectures, or the instruction does not fit a prompt.
    """
    inputs = compare_networks.same_inputs(a.source, b.source, seed)
    obstacles = end_to_end.obstacles(a.spec, b.spec)
    scene = None if obstacles else end_to_end.scene(a, b, seed)
    found, acted = [], []
    for number, policy in enumerate((a, b)):
        params = compare_networks.float32_params(policy.source)
        found.append(compare_networks.run_stages(inputs, params))
        if scene is not None:
            acted.append(end_to_end.act(policy.loaded(params), scene, number))
        # The second tree replaces the first instead of joining it in memory.
        del params
    report = compare_networks.networks_report(a.source, b.source, found[0], found[1])
    rows = {}
    if scene is not None:
        errors = end_to_end.errors(acted[0], acted[1], scene.scale)
        actions = compare_networks.sample_tolerance(a.source, b.source)
        rows = compare_networks.table(errors, _TRANSFORMS | {"actions": actions})
    return report | {
        "ok": report["ok"] and bool(rows) and compare_networks.all_ok(rows),
        "end_to_end": rows or f"not comparable: {', '.join(obstacles)}",
        "differences": differences(a, b),
        "notes": _notes(a, b) + (scene.notes if scene else []),
    }


def _json(report: dict[str, Any]) -> str:
    """Indented JSON with short lists in one line."""

    def one_line(found: re.Match[str]) -> str:
        """A list without lists or objects in it; no line break of it belongs to a string."""
        line = re.sub(r"\n *", " ", found[0])
        return line if len(line) < _LINE else found[0]

    return re.sub(r"\[[^\[\]{}]*\]", one_line, json.dumps(report, indent=1))


def _notes(a: AsPolicy, b: AsPolicy) -> list[str]:
    return [f"{name}: {note}" for name, one in (("a", a), ("b", b)) for note in one.notes]


def _open(name: str, arguments: argparse.Namespace) -> tuple[Path, Source]:
    path, choice = local(name), command.choice(arguments)
    source = open_any(path, command.heads(arguments), choice, arguments.action_horizon)
    return path, source


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = command.Parser("convert.verify", description=__doc__)
    parser.add_argument("policy", metavar="POLICY", help="policy folder or any foreign layout")
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--io", type=command.path, metavar="FILE.npz", help="golden file")
    choice.add_argument("--against", metavar="POLICY_B", help="another checkpoint")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs of --against")
    parser.add_argument(
        "--network-only", action="store_true", help="--against without what surrounds the network"
    )
    command.add_heads(parser)
    command.add_choice(parser)
    add_flags(parser)
    return parser.parse_args(argv)
