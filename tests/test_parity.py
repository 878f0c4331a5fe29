"""The network against the official one, part by part and end to end, in float32 on the CPU.

Reference values: tests/goldens, whose README says how they were made.
"""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import GOLDENS

from pi0_jax.convert.compare import reference_stages as stages
from pi0_jax.convert.sources.orbax_source import OrbaxSource
from pi0_jax.convert.sources.source import load_params
from pi0_jax.model import gemma, mask, siglip
from pi0_jax.types import path_name


@pytest.fixture(scope="module", autouse=True)
def highest_precision() -> Iterator[None]:
    """As pi0_jax.convert.commands.verify computes, so that both share their compiled functions."""
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(scope="module", params=["tiny_pi0", "tiny_pi05"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDENS / f"{name}_io.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def source(name: str, golden: dict[str, np.ndarray]) -> OrbaxSource:
    # No official checkpoint says its horizon: 50 in the pi0 golden, 10 in that of pi0.5.
    return OrbaxSource(GOLDENS / f"{name}_released", horizon=golden["actions"].shape[1])


@pytest.fixture(scope="module")
def params(source: OrbaxSource) -> Any:
    return load_params(source, "float32")


@pytest.fixture(scope="module")
def found(source: OrbaxSource, params: Any, golden: dict[str, np.ndarray]) -> dict[str, Any]:
    return stages.forward(source.info.config, params, *stages.inputs(golden))


def assert_within(found: Any, wanted: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)


def test_image_tower(source: OrbaxSource, params: Any, golden: dict[str, np.ndarray]) -> None:
    vision = source.info.config.vision
    tokens = siglip.encode(
        params["PaliGemma"]["img"], vision, golden["image/base_0_rgb"], jnp.dtype("float32")
    )
    assert_within(tokens, golden["prefix_tokens"][:, :256], 1e-4)


def test_prompt_embedding(params: Any, golden: dict[str, np.ndarray]) -> None:
    tokens = gemma.embed_tokens(
        params["PaliGemma"]["llm"], golden["tokenized_prompt"], jnp.dtype("float32")
    )
    assert_within(tokens, golden["prefix_tokens"][:, 768:], 1e-5)


def test_masks_and_positions(found: dict[str, Any], golden: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(found["prefix_mask"], golden["prefix_mask"])
    np.testing.assert_array_equal(found["positions"], golden["positions"])
    # openpi's ar mask: one block of state (none in a pi0.5), one of actions.
    horizon, length = golden["actions"].shape[1], golden["suffix_tokens"].shape[1]
    ar = np.cumsum(golden["suffix_ar_mask"].reshape(-1, length)[0].astype(int))
    own = mask.suffix_mask(horizon, states=length - horizon)
    np.testing.assert_array_equal(own, ar[None] <= ar[:, None])


@pytest.mark.parametrize(
    ("stage", "tolerance"),
    [
        ("prefix_tokens", 1e-4),
        ("suffix_tokens", 1e-4),
        ("suffix_out", 1e-4),
        ("v_t", 2e-4),
        ("v_at_t1", 2e-4),
        ("loss", 2e-4),
        ("mean_loss", 2e-4),
    ],
)
def test_stage(
    found: dict[str, Any], golden: dict[str, np.ndarray], stage: str, tolerance: float
) -> None:
    assert_within(found[stage], golden[stage], tolerance)


def test_clock(name: str, found: dict[str, Any], golden: dict[str, np.ndarray]) -> None:
    assert ("adarms_cond" in found) == ("adarms_cond" in golden) == (name == "tiny_pi05")
    if name == "tiny_pi05":
        assert_within(found["adarms_cond"], golden["adarms_cond"], 1e-4)


@pytest.mark.parametrize("steps", [10, 5])
def test_samples(
    source: OrbaxSource, params: Any, golden: dict[str, np.ndarray], steps: int
) -> None:
    obs, flow_in = stages.inputs(golden)
    chunk = stages.sample(source.info.config, params, obs, flow_in["noise"], steps)
    assert_within(chunk, golden[f"sample_actions_{steps}"], 3e-4)


def test_gradients(
    name: str, source: OrbaxSource, params: Any, golden: dict[str, np.ndarray]
) -> None:
    gradient = stages.gradient(source.info.config, params, *stages.inputs(golden))
    assert not gradient.pop("cond_embed").any()
    norm = stages.global_norm(gradient)
    assert norm == pytest.approx(float(golden["grad_global_norm"]), rel=1e-4)
    leaves = jax.tree_util.tree_flatten_with_path(gradient)[0]
    flat = {path_name(path): np.asarray(leaf) for path, leaf in leaves}
    norms = json.loads((GOLDENS / f"{name}_grad_norms.json").read_text())
    norms = norms.get("grad_norms", norms)
    assert flat.keys() == norms.keys()
    for path, wanted in norms.items():
        assert np.linalg.norm(flat[path]) == pytest.approx(wanted, rel=1e-3, abs=1e-5), path
    for key in golden:
        if key.startswith("grad/"):
            assert_within(flat[key.removeprefix("grad/")], golden[key], 1e-5)


# The masks of cameras are one code for both kinds.
@pytest.mark.parametrize("name", ["tiny_pi0"], indirect=True)
def test_dropping_the_masked_third_camera_changes_only_rounding(
    source: OrbaxSource, params: Any, found: dict[str, Any], golden: dict[str, np.ndarray]
) -> None:
    obs, flow_in = stages.inputs(golden)
    assert not obs.image_mask[:, 2].any()
    two = obs.replace(images=obs.images[:, :2], image_mask=obs.image_mask[:, :2])
    without = stages.forward(source.info.config, params, two, flow_in)
    assert_within(without["v_t"], np.asarray(found["v_t"]), 2e-5)


# The masks of cameras are one code for both kinds.
@pytest.mark.parametrize("name", ["tiny_pi0"], indirect=True)
def test_a_masked_camera_in_the_middle_is_the_same_as_none(
    source: OrbaxSource, params: Any, golden: dict[str, np.ndarray]
) -> None:
    obs, flow_in = stages.inputs(golden)
    gap = obs.replace(image_mask=np.array([[True, False, True]] * 2))
    outer = obs.replace(images=obs.images[:, ::2], image_mask=np.ones((2, 2), bool))
    config = source.info.config
    masked, absent = (stages.forward(config, params, o, flow_in)["v_t"] for o in (gap, outer))
    assert_within(masked, np.asarray(absent), 2e-5)


def test_bfloat16_compute_stays_within_the_reference_models_own_rounding(
    source: OrbaxSource, params: Any, golden: dict[str, np.ndarray]
) -> None:
    config = dataclasses.replace(source.info.config, compute_dtype="bfloat16")
    obs, flow_in = stages.inputs(golden)
    out = stages.forward(config, params, obs, flow_in)
    assert out["prefix_tokens"].dtype == jnp.bfloat16
    assert out["suffix_tokens"].dtype == out["v_t"].dtype == jnp.float32
    error = np.asarray(out["v_t"]) - golden["v_t"]
    assert np.abs(error).max() < 0.1
    assert np.sqrt((error**2).mean()) < 0.02
