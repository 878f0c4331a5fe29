"""Compares a checkpoint of any layout with reference outputs, or with another checkpoint.

python -m convert.verify POLICY --io FILE.npz        the arrays of a golden file, stage by stage
python -m convert.verify POLICY --against POLICY_B   the same inputs and noise through both

Prints JSON: the largest error of each stage and its tolerance. Exit code 1 if one is above its
tolerance. Everything is computed in float32 at the highest matrix precision, on the weights as
stored.
"""

import argparse
import json
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pi0_jax.convert import command
from pi0_jax.convert import reference_stages as stages
from pi0_jax.convert.open_checkpoint import open_any
from pi0_jax.convert.remote import local
from pi0_jax.convert.source import Source, load_params
from pi0_jax.errors import InputError
from pi0_jax.model.config import Pi0Config
from pi0_jax.types import Observation

# float32 on a CPU; four independent implementations agree within a fifth of these.
TOLERANCES = {
    "prefix_tokens": 1e-4,
    "suffix_tokens": 1e-4,
    "adarms_cond": 1e-4,
    "suffix_out": 5e-4,
    "v_t": 2e-4,
    "v_at_t1": 2e-4,
    "loss": 2e-4,
    "mean_loss": 2e-4,
    "sample_actions_10": 3e-4,
    "sample_actions_5": 3e-4,
    "grad_global_norm": 1e-4,
}
# Weights rounded to bfloat16 move the velocity by up to 4.4e-2 (goldens/README.md).
_BFLOAT16_TOLERANCE = 0.1
_SAMPLES = {"sample_actions_10": 10, "sample_actions_5": 5}

Arrays = dict[str, np.ndarray]


def main(argv: Sequence[str]) -> int:
    """Verifies; returns the exit code."""
    arguments = _parse(argv)
    source = open_any(local(arguments.policy), command.heads(arguments))
    if arguments.io:
        report = against_golden(source, read_golden(arguments.io))
    else:
        other = open_any(local(arguments.against), command.heads(arguments))
        report = against_checkpoint(source, other, arguments.seed)
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return 0 if report["ok"] else 1


def against_golden(source: Source, golden: Arrays) -> dict[str, Any]:
    """Compares every stage that the golden file has; returns the report as JSON values.

    Raises:
        InputError: inputs are missing, or do not fit the checkpoint's sizes.
    """
    obs, flow_in = stages.inputs(golden)
    config = _fit(source.info.config, obs, flow_in)
    params = on_device(load_params(source, "float32"))
    # The default precision of some accelerators rounds float32 products to fewer bits.
    with jax.default_matmul_precision("highest"):
        found = jax.device_get(stages.forward(config, params, obs, flow_in))
        for name, steps in _SAMPLES.items():
            if name in golden:
                chunk = stages.sample(config, params, obs, flow_in["noise"], steps)
                found[name] = np.asarray(chunk)
        if "grad_global_norm" in golden:
            gradient = stages.gradient(config, params, obs, flow_in)
            gradient.pop("cond_embed")  # not in the official tree, and no condition is given
            found["grad_global_norm"] = np.asarray(stages.global_norm(gradient))
    errors = {name: _error(name, found[name], golden[name]) for name in found if name in golden}
    horizons = {"checkpoint": source.info.config.action_horizon, "golden": config.action_horizon}
    return _report(source, errors) | {"action_horizon": horizons}


def against_checkpoint(source: Source, other: Source, seed: int) -> dict[str, Any]:
    """Compares two checkpoints on the same random inputs and noise; returns the report.

    Raises:
        InputError: different architectures.
    """
    config = source.info.config
    horizon = config.action_horizon
    if _core(config) != _core(other.info.config):
        raise InputError(f"different architectures: {config} and {other.info.config}")
    obs, flow_in = random_inputs(config, seed)
    outputs = []
    for checkpoint in (source, other):
        params = on_device(load_params(checkpoint, "float32"))
        with jax.default_matmul_precision("highest"):
            found = jax.device_get(stages.forward(config, params, obs, flow_in))
            chunk = stages.sample(config, params, obs, flow_in["noise"], 10)
        outputs.append(found | {"sample_actions_10": np.asarray(chunk)})
        # The second tree replaces the first instead of joining it in memory.
        del params
    a, b = outputs
    errors = {name: _error(name, a[name], b[name]) for name in a if name in TOLERANCES}
    report = _report(source, errors, other)
    horizons = {"a": horizon, "b": other.info.config.action_horizon}
    return report | {"action_horizon": horizons}


def random_inputs(config: Pi0Config, seed: int) -> tuple[Observation, Arrays]:
    """Two samples with two cameras, one of them masked in the second sample; actions, noise, time.

    Args:
        config: architecture.
        seed: seed of all values.

    Returns:
        The observation, and actions and noise float32[2, H, d] with time float32[2].
    """
    rng, size = np.random.default_rng(seed), config.vision.image_size
    chunk = (2, config.action_horizon, config.action_dim)
    length = config.prompt_length
    obs = Observation(
        images=rng.uniform(-1, 1, (2, 2, size, size, 3)).astype(np.float32),
        image_mask=np.array([[True, True], [True, False]]),
        state=rng.normal(size=(2, config.action_dim)).astype(np.float32),
        prompt=rng.integers(0, config.vocab_size, (2, length), np.int32),
        # The second prompt is half as long, so that padding is compared too.
        prompt_mask=np.arange(length) < np.array([[length], [max(1, length // 2)]]),
    )
    return obs, {
        "actions": rng.normal(size=chunk).astype(np.float32),
        "noise": rng.normal(size=chunk).astype(np.float32),
        "time": np.array([0.3, 0.8], np.float32),
    }


def on_device(params: Any) -> Any:
    """Moves a tree to the default device; each host array is freed as soon as it is copied.

    At full size both trees together would not fit a 24 GB machine.
    """
    leaves, structure = jax.tree.flatten(params)
    # The caller keeps no reference either, so an overwritten leaf is freed at once.
    del params
    for i, leaf in enumerate(leaves):
        leaves[i] = jax.device_put(leaf).block_until_ready()
    return jax.tree.unflatten(structure, leaves)


def read_golden(path: Path) -> Arrays:
    """Reads a golden file.

    Raises:
        InputError: no such file, or no npz of plain arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: expected an npz of plain arrays: {error}") from error


def _fit(config: Pi0Config, obs: Observation, flow_in: Arrays) -> Pi0Config:
    """The checkpoint's architecture with the golden file's horizon; no weight depends on it.

    Raises:
        InputError: the golden file has images, actions or token ids of another size.
    """
    horizon, dims = flow_in["actions"].shape[1:]
    size = obs.images.shape[2]
    if dims != config.action_dim or size != config.vision.image_size:
        raise InputError(
            f"the golden file has {size} px images and {dims} action dimensions, the checkpoint "
            f"takes {config.vision.image_size} px and {config.action_dim}"
        )
    if obs.prompt.max() >= config.vocab_size:
        raise InputError(f"the golden file's prompt exceeds the vocabulary {config.vocab_size}")
    return replace(config, action_horizon=horizon, compute_dtype="float32")


def _core(config: Pi0Config) -> Pi0Config:
    """The architecture as far as weights depend on it."""
    return replace(config, action_horizon=1, prompt_length=1, compute_dtype="float32")


def _error(name: str, found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest absolute difference; relative for the gradient norm, infinite for other shapes."""
    if found.shape != wanted.shape:
        return float("inf")
    error = np.abs(np.asarray(found, np.float64) - np.asarray(wanted, np.float64)).max()
    return float(error / np.abs(wanted) if name == "grad_global_norm" else error)


def _report(
    source: Source, errors: dict[str, float], other: Source | None = None
) -> dict[str, Any]:
    both = [source] if other is None else [source, other]
    rounded = any(s.info.dtypes != {"float32"} for s in both)
    rows = {}
    for name, error in errors.items():
        tolerance = TOLERANCES.get(name, 0.0)
        if rounded and tolerance:
            tolerance = _BFLOAT16_TOLERANCE
        # Not `error > tolerance`: a NaN must fail.
        rows[name] = {
            "max_error": error if np.isfinite(error) else None,
            "tolerance": tolerance,
            "ok": error <= tolerance,
        }
    return {
        "ok": bool(rows) and all(row["ok"] for row in rows.values()),
        "layouts": [s.info.layout for s in both],
        "weights": ["/".join(sorted(s.info.dtypes)) for s in both],
        "device": str(jax.devices()[0]),
        "stages": rows,
    }


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = command.Parser("convert.verify", description=__doc__)
    parser.add_argument("policy", metavar="POLICY", help="policy folder or any foreign layout")
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--io", type=command.path, metavar="FILE.npz", help="golden file")
    choice.add_argument("--against", metavar="POLICY_B", help="another checkpoint")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs of --against")
    command.add_heads(parser)
    return parser.parse_args(argv)
