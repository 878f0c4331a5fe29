"""Official Orbax folders in: released and training saves, EMA, LoRA, fused qkv, asset ids."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from checkpoints import GOLDENS, TINY, random_params, random_stats

from pi0_jax.convert.commands import jax_to_flax
from pi0_jax.convert.commands.command import status
from pi0_jax.convert.sources.orbax_source import OrbaxSource
from pi0_jax.convert.sources.source import load_params
from pi0_jax.data.normalize import save_norm_stats
from pi0_jax.errors import InputError
from pi0_jax.io.orbax_tree import load_tree, save_tree
from pi0_jax.policy.folder import load_policy


def equal(a: Any, b: Any) -> bool:
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))


def official(config: Any = TINY) -> dict[str, Any]:
    """A random tree without our own leaf."""
    params = random_params(config)
    del params["cond_embed"]
    return params


def save(folder: Path, tree: Any, *asset_ids: str) -> Path:
    """An official step folder."""
    save_tree(folder / "params", {"params": tree})
    for asset_id in asset_ids:
        save_norm_stats(folder / "assets" / asset_id / "norm_stats.json", random_stats())
    return folder


@pytest.mark.parametrize("name", ["tiny_pi0", "tiny_pi0_released"])
def test_goldens_convert_bit_by_bit(tmp_path: Path, name: str) -> None:
    assert status(jax_to_flax.main, [str(GOLDENS / name), str(tmp_path / "p")]) == 0
    policy = load_policy(tmp_path / "p")
    assert not policy.params.pop("cond_embed").any()
    assert equal(policy.params, load_tree(GOLDENS / "tiny_pi0_released/params")["params"])
    assert policy.spec.asset_id == "physical-intelligence/libero"
    # Cut to the robot's seven, or seven to begin with.
    assert len(policy.stats.actions.std) == 7
    assert len(policy.spec.robot.actions) == 7


def test_train_state_alone_gives_the_raw_weights_and_says_so() -> None:
    source = OrbaxSource(GOLDENS / "tiny_pi0/train_state", 50)
    assert source.info.notes == ["weights from train_state/params"]
    raw = load_params(source, "float32")["state_proj"]["bias"]
    ema = load_params(OrbaxSource(GOLDENS / "tiny_pi0"), "float32")["state_proj"]["bias"]
    np.testing.assert_allclose(raw, ema + 0.01, atol=1e-6)


def test_ema_in_train_state_is_preferred(tmp_path: Path) -> None:
    value = jax.tree.map(lambda x: {"value": x}, official())
    other = jax.tree.map(lambda x: {"value": x + 1}, official())
    save_tree(tmp_path / "train_state", {"step": np.array(3), "params": other, "ema_params": value})
    found = load_params(OrbaxSource(tmp_path), "float32")
    np.testing.assert_array_equal(found["state_proj"]["bias"], value["state_proj"]["bias"]["value"])


def add_lora(tree: Any, rank: int) -> tuple[Any, Any]:
    """The tree with adapters in openpi's places, and the tree that they amount to."""
    rng = np.random.default_rng(3)
    merged = jax.tree.map(np.copy, tree)
    layers, done = tree["PaliGemma"]["llm"]["layers"], merged["PaliGemma"]["llm"]["layers"]

    def factors(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        a, b = (*shape[:-1], rank), (*shape[:-2], rank, shape[-1])
        return tuple(rng.normal(size=size).astype(np.float32) for size in (a, b))  # type: ignore[return-value]

    for name in ("q_einsum", "kv_einsum_1", "attn_vec_einsum"):
        a, b = factors(layers["attn"][name]["w"].shape)
        layers["attn"][name] |= {"lora_a": a, "lora_b": b}
        if name == "attn_vec_einsum":
            b = b.sum(axis=1, keepdims=True)  # [depth, 1, rank, width]
        done["attn"][name]["w"] += a @ b
    for name in ("gating_einsum", "linear"):
        a, b = factors(layers["mlp_1"][name].shape)
        layers["mlp_1"] |= {f"{name}_lora_a": a, f"{name}_lora_b": b}
        done["mlp_1"][name] += a @ b
    return tree, merged


def test_adapters_are_found_and_merged(tmp_path: Path) -> None:
    tree, merged = add_lora(official(), rank=2)
    source = OrbaxSource(save(tmp_path, tree), 50)
    assert source.info.notes == ["5 low-rank adapters merged"]
    found = load_params(source, "float32")
    del found["cond_embed"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, merged)


# Einsum of a weight, and the two of its adapter, as openpi's `lora.Einsum` makes them of it: the
# last label of the weight's first axes becomes the rank L.
EINSUMS = {
    "q_einsum": ("btd,ndh->btnh", "btd,ndl->btnl", "btnl,nlh->btnh"),
    "kv_einsum": ("btd,cndh->cbtnh", "btd,cndl->cbtnl", "cbtnl,cnlh->cbtnh"),
    "attn_vec_einsum": ("btnh,nhd->btd", "btnh,nhl->btl", "btl,nld->btd"),
}


@pytest.mark.parametrize("name", EINSUMS)
def test_a_merged_adapter_computes_what_openpi_computes_with_it_beside(
    tmp_path: Path, name: str
) -> None:
    rng = np.random.default_rng(4)
    tree = official()
    weight = tree["PaliGemma"]["llm"]["layers"]["attn"][name]
    *lead, fan_in, fan_out = weight["w"].shape
    weight["lora_a"] = rng.normal(size=(*lead, fan_in, 2)).astype(np.float32)
    weight["lora_b"] = rng.normal(size=(*lead, 2, fan_out)).astype(np.float32)
    w, a, b = (weight[key][0] for key in ("w", "lora_a", "lora_b"))
    plain, first, second = EINSUMS[name]
    width = lead[-1:] * (name == "attn_vec_einsum")
    x = rng.normal(size=(2, 3, *width, fan_in))
    expected = np.einsum(plain, x, w) + np.einsum(second, np.einsum(first, x, a), b)
    merged = load_params(OrbaxSource(save(tmp_path, tree), 50), "float32")
    found = merged["PaliGemma"]["llm"]["layers"]["attn"][name]["w"][0]
    np.testing.assert_allclose(np.einsum(plain, x, found), expected, rtol=1e-4, atol=1e-4)


def test_half_an_adapter_is_an_error(tmp_path: Path) -> None:
    tree, _ = add_lora(official(), rank=2)
    del tree["PaliGemma"]["llm"]["layers"]["mlp_1"]["linear_lora_b"]
    with pytest.raises(InputError, match="missing PaliGemma/llm/layers/mlp_1/linear_lora_b"):
        OrbaxSource(save(tmp_path, tree))


def test_a_fused_qkv_is_taken_apart(tmp_path: Path) -> None:
    tree = official(dataclasses.replace(TINY, num_kv_heads=4))
    fused = jax.tree.map(np.copy, tree)
    attn = fused["PaliGemma"]["llm"]["layers"]["attn"]
    for suffix in ("", "_1"):
        q, kv = attn.pop(f"q_einsum{suffix}")["w"], attn.pop(f"kv_einsum{suffix}")["w"]
        attn[f"qkv_einsum{suffix}"] = {"w": np.concatenate([q[:, None], kv], axis=1)}
    found = load_params(OrbaxSource(save(tmp_path, fused)), "float32")
    del found["cond_embed"]
    assert equal(found, tree)


def test_several_asset_ids_need_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save(tmp_path / "s", official(), "a/droid", "b/libero")
    command = [str(folder), str(tmp_path / "p")]
    assert status(jax_to_flax.main, command) == 2
    assert "--asset-id a/droid | b/libero" in capsys.readouterr().err
    assert status(jax_to_flax.main, [*command, "--asset-id", "c"]) == 2
    assert "no asset id 'c'" in capsys.readouterr().err
    assert status(jax_to_flax.main, [*command, "--asset-id", "b/libero"]) == 0
    assert load_policy(tmp_path / "p").spec.asset_id == "b/libero"


def test_the_summary_says_what_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save(tmp_path / "s", official(), "robot")
    arguments = [str(folder), str(tmp_path / "p"), "--dtype", "bfloat16"]
    assert status(jax_to_flax.main, arguments) == 0
    summary = capsys.readouterr().out
    for text in ("openpi orbax", "50 used", "float32 -> bfloat16", "robot", "50 actions per chunk"):
        assert text in summary


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("state_proj"), "missing state_proj/bias.*missing state_proj/kernel"),
        (lambda t: t.update(extra={"w": np.ones(2)}), "unexpected extra/w"),
        (lambda t: t["state_proj"].update(bias=np.ones(9, np.float32)), "bias: expected shape .8"),
        (lambda t: t.update(time_mlp_in={"kernel": np.ones((2, 2))}), "unexpected time_mlp_in"),
    ],
)
def test_spoilt_trees(tmp_path: Path, change: Any, message: str) -> None:
    tree = official()
    change(tree)
    with pytest.raises(InputError, match=message):
        OrbaxSource(save(tmp_path, tree))


def test_a_run_folder_with_several_steps_names_the_newest_first(tmp_path: Path) -> None:
    for step in ("9000", "10000"):
        (tmp_path / step / "params").mkdir(parents=True)
        (tmp_path / step / "params/_METADATA").touch()
    with pytest.raises(InputError, match=r"name one: \S*/10000, \S*/9000"):
        OrbaxSource(tmp_path)


def test_the_only_step_of_a_run_is_used(tmp_path: Path) -> None:
    save(tmp_path / "run/29999", official(), "robot")
    assert status(jax_to_flax.main, [str(tmp_path / "run"), str(tmp_path / "p")]) == 0
    source = OrbaxSource(tmp_path / "run", 50)
    assert (source.folder, source.info.notes) == (
        tmp_path / "run/29999",
        [f"the checkpoint is {tmp_path / 'run/29999'}"],
    )


def test_two_stores_of_weights_are_mentioned() -> None:
    notes = OrbaxSource(GOLDENS / "tiny_pi0", 50).info.notes
    assert notes == ["weights from params/, as openpi evaluates them; not train_state/"]


def test_a_horizon_that_no_file_says_is_named_as_assumed() -> None:
    """Openpi's pi0_droid has 10 actions per chunk, and nothing in its files says so."""
    notes = OrbaxSource(GOLDENS / "tiny_pi0").info.notes
    assert any("action horizon 50 is assumed" in note for note in notes)


def test_a_second_tree_beside_the_parameters_is_left_over(tmp_path: Path) -> None:
    save_tree(tmp_path / "params", {"params": official(), "adapters": {"a": np.ones(2)}})
    with pytest.raises(InputError, match="unexpected adapters/a"):
        OrbaxSource(tmp_path)
