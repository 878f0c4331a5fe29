"""Two networks, or one and a golden file, compared stage by stage on the same inputs.

Everything is computed in float32 at the highest matrix precision, on the weights as stored.

Axis letters: b batch, H action horizon, d padded action dimension.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pi0_jax.convert.compare import reference_stages as stages
from pi0_jax.convert.sources.source import Source, load_params
from pi0_jax.errors import InputError
from pi0_jax.model.config import Pi0Config
from pi0_jax.model.pi0 import POSITIVE
from pi0_jax.npz_file import read_arrays
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
Inputs = tuple[Pi0Config, Observation, Arrays]
"""Architecture, observation, and actions with noise and time."""
Rows = dict[str, dict[str, Any]]


def against_golden(source: Source, golden: Arrays) -> dict[str, Any]:
    """Compares every stage that the golden file has; returns the report as JSON values.

    Raises:
        InputError: inputs are missing, or do not fit the checkpoint's sizes.
    """
    obs, flow_in = stages.inputs(golden)
    config = _fit(source.info.config, obs, flow_in)
    # Only a pi0.5 turns the time into the scales and shifts of its norms.
    if ("adarms_cond" in golden) > config.pi05:
        raise InputError("the golden file is of a pi0.5, the checkpoint is a pi0")
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


def against_network(source: Source, other: Source, seed: int) -> dict[str, Any]:
    """Compares two networks on the same random inputs and noise; returns the report.

    Raises:
        InputError: different architectures.
    """
    inputs = same_inputs(source, other, seed)
    a, b = (run_stages(inputs, float32_params(checkpoint)) for checkpoint in (source, other))
    return networks_report(source, other, a, b)


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
    return read_arrays(path, "an npz of plain arrays")


def same_inputs(source: Source, other: Source, seed: int) -> Inputs:
    """The first one's architecture, and random inputs for it.

    Raises:
        InputError: the other one has another architecture.
    """
    config = source.info.config
    if _core(config) != _core(other.info.config):
        raise InputError(f"different architectures: {config} and {other.info.config}")
    return (config, *random_inputs(config, seed))


def _core(config: Pi0Config) -> Pi0Config:
    """The architecture as far as weights depend on it."""
    return replace(config, action_horizon=1, prompt_length=1, compute_dtype="float32")


def float32_params(source: Source) -> Any:
    """The parameters on the device, as the policy acts at guidance 1."""
    return on_device(_guided(load_params(source, "float32")))


def _guided(params: dict[str, Any]) -> dict[str, Any]:
    """The condition is one constant for all action tokens: a bias, in which an export has it."""
    params["action_in_proj"]["bias"] += params["cond_embed"][POSITIVE]
    params["cond_embed"][:] = 0
    return params


def run_stages(inputs: Inputs, params: Any) -> Arrays:
    """Every intermediate value of `stages.forward`, and an action chunk of ten flow steps."""
    config, obs, flow_in = inputs
    config = replace(config, compute_dtype="float32")
    with jax.default_matmul_precision("highest"):
        found = jax.device_get(stages.forward(config, params, obs, flow_in))
        chunk = stages.sample(config, params, obs, flow_in["noise"], 10)
    return found | {"sample_actions_10": np.asarray(chunk)}


def networks_report(source: Source, other: Source, a: Arrays, b: Arrays) -> dict[str, Any]:
    """The report on two networks, whose stages were a and b, as JSON values."""
    errors = {name: _error(name, a[name], b[name]) for name in a if name in TOLERANCES}
    horizons = (checkpoint.info.config.action_horizon for checkpoint in (source, other))
    return _report(source, errors, other) | {
        "action_horizon": dict(zip("ab", horizons, strict=True))
    }


def table(errors: Mapping[str, float], tolerances: Mapping[str, float]) -> Rows:
    """One row per error: the number, its tolerance (0 if it has none), and whether it is within."""
    return {
        name: {
            "max_error": error if np.isfinite(error) else None,
            "tolerance": tolerances.get(name, 0.0),
            # Not `error > tolerance`: a NaN must fail.
            "ok": error <= tolerances.get(name, 0.0),
        }
        for name, error in errors.items()
    }


def all_ok(rows: Rows) -> bool:
    """Whether every row is within its tolerance."""
    return all(row["ok"] for row in rows.values())


def _report(
    source: Source, errors: dict[str, float], other: Source | None = None
) -> dict[str, Any]:
    both = [source] if other is None else [source, other]
    tolerances = dict.fromkeys(TOLERANCES, _BFLOAT16_TOLERANCE)
    rows = table(errors, tolerances if rounded(source, other) else TOLERANCES)
    return {
        "ok": bool(rows) and all_ok(rows),
        "layouts": [s.info.layout for s in both],
        "weights": ["/".join(sorted(s.info.dtypes)) for s in both],
        "device": str(jax.devices()[0]),
        "stages": rows,
    }


def _error(name: str, found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest absolute difference; relative for the gradient norm, infinite for other shapes."""
    if found.shape != wanted.shape:
        return float("inf")
    error = np.abs(np.asarray(found, np.float64) - np.asarray(wanted, np.float64)).max()
    return float(error / np.abs(wanted) if name == "grad_global_norm" else error)


def rounded(a: Source, b: Source | None) -> bool:
    """Whether the weights of one side are those of the other, or of a golden file, but rounded."""
    return a.info.dtypes != ({"float32"} if b is None else b.info.dtypes)


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


def sample_tolerance(a: Source, b: Source) -> float:
    """Of an action chunk of ten flow steps, normalised."""
    return _BFLOAT16_TOLERANCE if rounded(a, b) else TOLERANCES["sample_actions_10"]
