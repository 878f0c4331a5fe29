"""There and back: bit-exact through every layout, and loaded by the real transformers."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from checkpoints import GOLDENS, IO, TINY, TorchGolden, make_policy
from safetensors.torch import load_file, save_file
from skips import slow
from transformers import PI0ForConditionalGeneration

from pi0_jax.convert.commands import flax_to_torch, jax_to_flax, torch_to_flax
from pi0_jax.convert.commands.command import status
from pi0_jax.convert.compare import compare_networks
from pi0_jax.convert.compare import reference_stages as stages
from pi0_jax.convert.sources.torch_source import TorchSource
from pi0_jax.data.action_space import ActionSpace
from pi0_jax.data.normalize import load_norm_stats
from pi0_jax.errors import InputError
from pi0_jax.model.config import ExpertConfig, Pi0Config, VisionConfig
from pi0_jax.model.pi0 import Pi0
from pi0_jax.policy.folder import PolicyFolder, load_policy, save_policy
from pi0_jax.types import Observation

LAYOUTS = ("openpi", "lerobot", "transformers")
SIZES = {
    "several key heads": TINY,
    "one layer, one head": dataclasses.replace(
        TINY, depth=1, num_heads=1, num_kv_heads=1, head_dim=2, action_horizon=1
    ),
    "as many key heads": dataclasses.replace(TINY, num_heads=3, num_kv_heads=3, head_dim=10),
    "expert wider than the VLM": dataclasses.replace(
        TINY,
        vlm=ExpertConfig(6, 10),
        action=ExpertConfig(14, 6),
        vision=VisionConfig(21, 7, 10, 4, 6, 5),
        action_dim=33,
    ),
}


def run(main: Any, *arguments: object) -> None:
    assert status(main, [str(argument) for argument in arguments]) == 0


def there_and_back(policy: Path, layout: str, folder: Path) -> PolicyFolder:
    run(flax_to_torch.main, policy, folder / "x", "--layout", layout)
    run(torch_to_flax.main, folder / "x", folder / "y", "--layout", layout)
    return load_policy(folder / "y")


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        pytest.param(name, layout, marks=() if layout == LAYOUTS[i % len(LAYOUTS)] else slow)
        for i, name in enumerate(SIZES)
        for layout in LAYOUTS
    ],
)
def test_any_size_comes_back_bit_by_bit(name: str, layout: str, tmp_path: Path) -> None:
    policy = make_policy(tmp_path / "p", SIZES[name])
    back = there_and_back(tmp_path / "p", layout, tmp_path)
    for path in ("PaliGemma", "state_proj", "action_out_proj"):
        same = jax.tree.map(np.array_equal, back.params[path], policy.params[path])
        assert all(jax.tree.leaves(same))
    assert back.spec.model.action_horizon == SIZES[name].action_horizon
    core = dataclasses.replace(back.spec.model, prompt_length=TINY.prompt_length)
    assert core == SIZES[name]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_official_to_ours_to_pytorch_to_ours(layout: str, tmp_path: Path) -> None:
    run(jax_to_flax.main, GOLDENS / "tiny_pi0", tmp_path / "p")
    policy = load_policy(tmp_path / "p")
    back = there_and_back(tmp_path / "p", layout, tmp_path)
    for a, b in zip(jax.tree.leaves(policy.params), jax.tree.leaves(back.params), strict=True):
        assert a.tobytes() == b.tobytes()
    np.testing.assert_allclose(back.stats.actions.std, policy.stats.actions.std, rtol=1e-7)
    assert len(back.spec.robot.actions) == 7


@pytest.mark.parametrize(
    ("layout", "golden"),
    [
        ("openpi", "openpi"),
        ("lerobot", "lerobot_new_v06"),
        ("transformers", "transformers_native"),
    ],
)
def test_exported_names_and_shapes_are_the_librarys(
    layout: str, golden: str, torch_golden: TorchGolden, tmp_path: Path
) -> None:
    run(jax_to_flax.main, GOLDENS / "tiny_pi0", tmp_path / "p")
    run(flax_to_torch.main, tmp_path / "p", tmp_path / "x", "--layout", layout)
    ours, theirs = (
        {k: v.shape for k, v in load_file(folder / "model.safetensors").items()}
        for folder in (tmp_path / "x", torch_golden(f"tiny_pi0_torch_{golden}"))
    )
    assert ours == theirs


def test_lerobot_gets_its_config_and_processors(tmp_path: Path) -> None:
    policy = make_policy(tmp_path / "p")
    run(flax_to_torch.main, tmp_path / "p", tmp_path / "x", "--layout", "lerobot")
    config = json.loads((tmp_path / "x/config.json").read_text())
    assert (config["type"], config["chunk_size"], config["n_action_steps"]) == ("pi0", 7, 4)
    assert list(config["input_features"]) == [
        "observation.images.front",
        "observation.images.wrist",
        "observation.state",
    ]
    assert config["output_features"]["action"]["shape"] == [3]
    steps = json.loads((tmp_path / "x/policy_preprocessor.json").read_text())["steps"]
    tensors = load_file(tmp_path / "x" / steps[-1]["state_file"])
    np.testing.assert_allclose(
        tensors["observation.state.mean"], policy.stats.state.mean, rtol=1e-6
    )


def test_what_a_layout_cannot_carry_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = make_policy(tmp_path / "p", action_space=ActionSpace((True, True)))
    params = dict(policy.params)
    params["cond_embed"] = np.stack([np.zeros(8), np.arange(8)]).astype(np.float32)
    save_policy(tmp_path / "q", dataclasses.replace(policy, params=params), {})
    run(flax_to_torch.main, tmp_path / "q", tmp_path / "x", "--layout", "lerobot")
    summary = capsys.readouterr().out
    assert "folded into action_in_proj's bias" in summary
    assert "relative by the mask 2: lerobot 0.6 or newer loads the steps" in summary
    bias = load_file(tmp_path / "x/model.safetensors")["model.action_in_proj.bias"]
    wanted = policy.params["action_in_proj"]["bias"] + np.arange(8, dtype=np.float32)
    np.testing.assert_array_equal(bias, wanted)


def test_rlinf_gets_openpis_weights_and_its_statistics_where_it_looks(tmp_path: Path) -> None:
    policy = make_policy(tmp_path / "p", asset_id="org/robot")
    for layout in ("openpi", "rlinf"):
        run(flax_to_torch.main, tmp_path / "p", tmp_path / layout, "--layout", layout)
    weights, theirs = (tmp_path / name / "model.safetensors" for name in ("openpi", "rlinf"))
    assert weights.read_bytes() == theirs.read_bytes()
    stats = load_norm_stats(tmp_path / "rlinf/org/robot/norm_stats.json")
    np.testing.assert_array_equal(stats.state.mean, policy.stats.state.mean)
    assert not (tmp_path / "rlinf/assets").exists()


def hf_inputs(obs: Observation, config: Pi0Config) -> dict[str, torch.Tensor]:
    """What transformers takes: valid cameras and the prompt only, padded on the right."""
    tokens, batch = config.vision.num_tokens, len(obs.state)
    rows = [
        [config.vocab_size] * int(tokens * obs.image_mask[i].sum())
        + obs.prompt[i][obs.prompt_mask[i]].tolist()
        for i in range(batch)
    ]
    length = max(len(row) for row in rows)
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "pixel_values": torch.tensor(np.moveaxis(obs.images, -1, 2)),
        "pixel_attention_mask": torch.tensor(obs.image_mask),
        "state": torch.tensor(obs.state),
    }


def check_transformers(folder: Path, config: Pi0Config, obs: Observation, flow_in: Any) -> None:
    """The real library loads every key and has our velocity."""
    policy = load_policy(folder / "p")
    run(flax_to_torch.main, folder / "p", folder / "x", "--layout", "transformers")
    model, info = PI0ForConditionalGeneration.from_pretrained(
        folder / "x", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    ours = stages.forward(config, policy.params, obs, flow_in)["v_t"]
    t = flow_in["time"][:, None, None]
    x_t = t * flow_in["noise"] + (1 - t) * flow_in["actions"]
    with torch.no_grad():
        out = model(
            noise=torch.tensor(x_t),
            timestep=torch.tensor(flow_in["time"]),
            **hf_inputs(obs, config),
        )
    np.testing.assert_allclose(out.logits.numpy(), ours, rtol=0, atol=2e-4)


def test_transformers_loads_other_sizes_and_a_gap_between_cameras(tmp_path: Path) -> None:
    make_policy(tmp_path / "p")
    obs, flow_in = compare_networks.random_inputs(TINY, seed=2)
    images = np.concatenate([obs.images, obs.images[:, :1]], axis=1)
    mask = np.array([[True, True, True], [True, False, True]])
    check_transformers(tmp_path, TINY, obs.replace(images=images, image_mask=mask), flow_in)


def test_transformers_loads_the_converted_golden(tmp_path: Path) -> None:
    run(jax_to_flax.main, GOLDENS / "tiny_pi0", tmp_path / "p")
    with np.load(IO) as file:
        obs, flow_in = stages.inputs(dict(file))
    check_transformers(tmp_path, load_policy(tmp_path / "p").spec.model, obs, flow_in)


def test_a_missing_last_layer_is_missed(tmp_path: Path) -> None:
    # Without the config, a checkpoint that lost its last layers would look like a smaller one.
    make_policy(tmp_path / "p")
    run(flax_to_torch.main, tmp_path / "p", tmp_path / "x", "--layout", "transformers")
    tensors = load_file(tmp_path / "x/model.safetensors")
    kept = {key: value for key, value in tensors.items() if ".layers.2." not in key}
    save_file(kept, tmp_path / "x/model.safetensors")
    with pytest.raises(InputError, match=r"missing model\.dit\.layers\.2\.input_layernorm"):
        TorchSource(tmp_path / "x")


def test_a_policy_of_ours_keeps_working_after_the_trip(tmp_path: Path) -> None:
    # Nothing of the network's shape may depend on where it came from.
    make_policy(tmp_path / "p")
    back = there_and_back(tmp_path / "p", "openpi", tmp_path)
    obs, flow_in = compare_networks.random_inputs(TINY, seed=0)
    cache = Pi0(back.spec.model).encode_prefix(back.params, obs)
    assert cache.k.shape == (3, 2, 2 * 4 + 6, 2, 6)
    assert flow_in["noise"].shape == (2, 7, 5)
