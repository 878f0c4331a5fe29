"""RLinf's bare layout: made from openpi's golden by hand, read back to the last bit."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from checkpoints import GOLDENS
from safetensors.numpy import load_file, save_file

from pi0_jax.convert.commands import torch_to_flax
from pi0_jax.convert.commands.command import status
from pi0_jax.convert.sources.bare_layout import Bare
from pi0_jax.convert.sources.source import load_params
from pi0_jax.convert.sources.torch_source import TorchSource
from pi0_jax.errors import InputError
from pi0_jax.policy.folder import load_policy

Arrays = dict[str, np.ndarray]

VISION = "paligemma_with_expert.paligemma.model.vision_tower.vision_model."
VLM = "paligemma_with_expert.paligemma.model.language_model."
WORDS = "paligemma_with_expert.paligemma.lm_head.weight"
EXPERT = "paligemma_with_expert.gemma_expert.model."
PROJECTOR = "paligemma_with_expert.paligemma.model.multi_modal_projector.linear."


def bare(weights: Arrays) -> Arrays:
    """Openpi's tensors as RLinf stores them; both models have two layers per tower."""
    found: Arrays = {
        key: value
        for key, value in weights.items()
        if key.startswith(("action_", "time_", "state_"))
    }
    found["img.pos_embedding"] = weights[f"{VISION}embeddings.position_embedding.weight"][None]
    found["llm.embedder.embedding.weight"] = weights[
        "paligemma_with_expert.paligemma.lm_head.weight"
    ]
    for tensor in ("weight", "bias"):
        found[f"img.stem.{tensor}"] = weights[f"{VISION}embeddings.patch_embedding.{tensor}"]
        found[f"img.encoder.norm.{tensor}"] = weights[f"{VISION}post_layernorm.{tensor}"]
        found[f"img.head.{tensor}"] = weights[PROJECTOR + tensor]
        for i in range(2):
            layer = f"{VISION}encoder.layers.{i}."
            found[f"img.encoder.layers.{i}.attn.in_proj_{tensor}"] = np.concatenate(
                [weights[f"{layer}self_attn.{name}_proj.{tensor}"] for name in "qkv"]
            )
            for theirs, ours in (
                *(("self_attn.out_proj", "attn.out_proj"), ("mlp.fc1", "mlp.fc1")),
                *(("mlp.fc2", "mlp.fc2"), ("layer_norm1", "norm1"), ("layer_norm2", "norm2")),
            ):
                key = f"img.encoder.layers.{i}.{ours}.{tensor}"
                found[key] = weights[f"{layer}{theirs}.{tensor}"]
    for number, tower in enumerate((VLM, EXPERT)):
        for i in range(2):
            layer, out = f"{tower}layers.{i}.", f"llm.layers.{i}."
            for name in "qkvo":
                weight = weights[f"{layer}self_attn.{name}_proj.weight"]
                found[f"{out}attn.{name}_proj.{number}.weight"] = weight
            gate, up, down = (
                weights[f"{layer}mlp.{x}_proj.weight"].T for x in ("gate", "up", "down")
            )
            found[f"{out}mlps.{number}.w_gating"] = np.stack([gate, up])
            found[f"{out}mlps.{number}.w_linear"] = down
            _norm(weights, found, f"{layer}input_layernorm", f"{out}pre_attention_norms.{number}")
            _norm(
                weights, found, f"{layer}post_attention_layernorm", f"{out}pre_ffw_norms.{number}"
            )
        _norm(weights, found, f"{tower}norm", f"llm.final_norms.{number}")
    return {key: np.ascontiguousarray(value) for key, value in found.items()}


def _norm(weights: Arrays, found: Arrays, theirs: str, ours: str) -> None:
    if f"{theirs}.weight" in weights:
        found[f"{ours}.scale"] = weights[f"{theirs}.weight"]
        return
    for tensor in ("weight", "bias"):
        found[f"{ours}.ada_modulation.{tensor}"] = weights[f"{theirs}.dense.{tensor}"]


def make(folder: Path, golden: str, prefix: str = "") -> Path:
    """A golden of openpi's in RLinf's layout, with its statistics beside the weights."""
    source = GOLDENS / golden
    folder.mkdir(parents=True)
    tensors = bare(load_file(source / "model.safetensors"))
    save_file({prefix + key: value for key, value in tensors.items()}, folder / "model.safetensors")
    shutil.copytree(source / "assets/physical-intelligence", folder / "physical-intelligence")
    # RLinf's converter writes one key that openpi lacks.
    config = json.loads((source / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pcd": False, "dtype": "bfloat16"}))
    return folder


def equal(a: Any, b: Any) -> bool:
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))


@pytest.mark.parametrize("golden", ["tiny_pi0_torch_openpi", "tiny_pi05_torch_openpi"])
@pytest.mark.parametrize("prefix", ["", "model.", "_orig_mod.model."])
def test_every_bit_comes_back(golden: str, prefix: str, tmp_path: Path) -> None:
    source = TorchSource(make(tmp_path / "c", golden, prefix))
    wanted = TorchSource(GOLDENS / golden)
    assert equal(load_params(source, "float32"), load_params(wanted, "float32"))
    assert source.info.config == wanted.info.config
    assert any("RLinf's bare names" in note for note in source.info.notes)


def test_a_conversion_finds_rlinfs_statistics(tmp_path: Path) -> None:
    folder = make(tmp_path / "c", "tiny_pi0_torch_openpi")
    assert status(torch_to_flax.main, [str(folder), str(tmp_path / "p")]) == 0
    assert load_policy(tmp_path / "p").spec.asset_id == "physical-intelligence/libero"
    notes = json.loads((tmp_path / "p/manifest.json").read_text())["notes"]
    assert "RLinf's bare names (img, llm), read as openpi's" in notes


def test_what_is_missing_or_left_over_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path / "c", "tiny_pi0_torch_openpi")
    tensors = load_file(folder / "model.safetensors")
    del tensors["llm.layers.1.mlps.1.w_gating"]
    tensors["llm.layers.1.mlps.2.w_gating"] = np.ones(3, np.float32)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(InputError) as raised:
        TorchSource(folder)
    message = str(raised.value)
    assert "3 problems" in message
    for name in ("gate_proj.weight", "up_proj.weight"):
        assert f"missing {EXPERT}layers.1.mlp.{name}" in message
    assert "unexpected llm.layers.1.mlps.2.w_gating" in message


class Shapes:
    """`Tensors` of ones."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]):
        self.shapes, self.dtypes = shapes, dict.fromkeys(shapes, "float32")
        self.files, self.metadata, self.beside = [], {}, []

    def read(self, key: str) -> np.ndarray:
        return np.arange(np.prod(self.shapes[key])).reshape(self.shapes[key])


def test_tensors_are_cut_into_equal_parts(tmp_path: Path) -> None:
    q = "llm.layers.0.attn.q_proj.0.weight"
    found = Bare(Shapes({q: (6, 2)}), tmp_path)
    key = f"{VLM}layers.0.self_attn.{{}}_proj.weight"
    assert found.read(key.format("q")).tolist() == [[0, 1], [2, 3]]
    assert found.read(key.format("v")).tolist() == [[8, 9], [10, 11]]
    whole = Bare(Shapes({q: (4, 2), q.replace("q_proj", "k_proj"): (2, 2)}), tmp_path)
    assert whole.shapes == {key.format("q"): (4, 2), key.format("k"): (2, 2)}
    for wrong in ((3, 2, 2), ()):
        with pytest.raises(InputError, match="expected 2 equal parts"):
            Bare(Shapes({"llm.layers.0.mlps.0.w_gating": wrong}), tmp_path)
