"""The budget of a job: by hand where it is small, and at full size without any weight."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from gradients import CFG, gradient, windows
from skips import slow
from tiny import CONFIG, MODEL

from pi0_jax.errors import InputError
from pi0_jax.model.config import pi0, pi05
from pi0_jax.model.pi0 import Pi0
from pi0_jax.rl.objectives.cfg import Cfg
from pi0_jax.rl.objectives.filtered_bc import FilteredBc
from pi0_jax.rl.objectives.nft import Nft
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.memory import GB, Job, abstract_batch, check, compiled_bytes, count
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.step import Loss


def job(config=CONFIG, preset="full", size=4, ema_decay=0.0, **hardware) -> Job:
    return Job(
        Pi0(config).shapes(),
        lambda remat: Cfg(0.1).loss(Pi0(config, remat), 1, "embedding"),
        OptimizerConfig(1e-4, 10, preset=preset, ema_decay=ema_decay),
        abstract_batch(config, 2, size),
        Hardware(**hardware),
    )


def wider(**changes) -> object:
    """The tiny model with a larger image tower and VLM, and the same action expert."""
    vision = dataclasses.replace(CONFIG.vision, mlp_dim=160, depth=3)
    vlm = dataclasses.replace(CONFIG.vlm, mlp_dim=240)
    return dataclasses.replace(CONFIG, vision=vision, vlm=vlm, **changes)


def test_state_by_hand(params):
    number = sum(leaf.size for leaf in jax.tree.leaves(params))
    plain = count(job())
    assert plain.trained == plain.gradients == 4 * number
    # Two moments, the step count of AdamW and that of the schedule.
    assert plain.optimizer == 8 * number + 8
    assert plain.frozen == 0
    lean = count(job(preset="expert_only", ema_decay=0.9, micro_batches=2, frozen_dtype="bfloat16"))
    assert lean.trained // 4 + lean.frozen // 2 == number
    assert lean.optimizer == 3 * lean.trained + 8
    assert lean.gradients == 2 * lean.trained


def test_the_acting_parameters_are_one_more_copy_of_what_is_trained():
    """Two moments, the acting copy, two counts; a forward pass keeps nothing for a backward one."""
    plain = job(preset="expert_only")
    losses = {
        objective: objective.loss(MODEL, 1, "embedding") for objective in (FilteredBc(), Nft())
    }
    bc, nft = (
        count(dataclasses.replace(plain, loss=lambda remat, loss=loss: loss))
        for loss in losses.values()
    )
    assert bc.optimizer == 2 * bc.trained + 8
    assert nft.optimizer == 3 * nft.trained + 8
    assert (nft.trained, nft.frozen) == (bc.trained, bc.frozen)
    assert nft.activations < 1.1 * bc.activations


def test_nothing_of_a_frozen_prefix_is_kept():
    """A larger VLM of the same depth keeps more where it is trained, and nothing where not."""
    small, large = (count(job(c, "expert_only")) for c in (CONFIG, wider()))
    assert large.activations == small.activations
    small, large = (count(job(c)) for c in (CONFIG, wider()))
    assert large.activations > 1.5 * small.activations


def test_remat_keeps_less():
    kept = [count(job(wider(), remat=remat)).activations for remat in ("none", "mlp", "full")]
    assert kept[0] > 1.1 * kept[1] > 1.1 * kept[2]


# In small: its gradients in the action expert, test_pi05; what it computes, test_layer_scan.
@slow
@pytest.mark.parametrize("remat", ["mlp", "full"])
def test_remat_changes_no_number(params, remat):
    plain = gradient(CFG, params, windows())
    again = gradient(CFG, params, windows(), model=Pi0(CONFIG, remat))
    for a, b in zip(*map(jax.tree.leaves, (plain, again)), strict=True):
        assert jnp.allclose(a, b, rtol=1e-4, atol=1e-5)


def test_remat_has_three_values():
    assert Pi0(CONFIG) == MODEL
    with pytest.raises(InputError, match="remat must be one of"):
        Pi0(CONFIG, "some")


def test_the_compiler_agrees_about_the_state():
    # Frozen leaves, too, and as little to compile as can be.
    rules = (("action_out_proj/.*", 1.0), (".*", 0.0))
    planned = dataclasses.replace(job(), optimizer=OptimizerConfig(1e-4, 10, rules=rules))
    found, budget = compiled_bytes(planned), count(planned)
    state = budget.trained + budget.frozen + budget.optimizer
    assert found is not None
    assert state < found < 4 * budget.total


def test_the_published_size():
    """Expert only in 16 GB, everything in 80 GB: counted, with no array in memory."""
    lean = job(pi0(), "expert_only", 4, frozen_dtype="bfloat16")
    assert check(dataclasses.replace(lean, hardware=hardware(lean, memory_gb=16))).total < 13 * GB
    full = job(pi0(), "full", 32, remat="full", memory_gb=80)
    assert check(full).total < 70 * GB


def test_the_published_size_of_pi05():
    """Its parameters by hand, trained in its action expert alone."""
    five, zero = (count(job(config, "expert_only", 1)) for config in (pi05(), pi0()))
    assert five.trained + five.frozen == 4 * (3_353_433_872 + 2048)
    # 37 norms have a layer [1024 + 1, 3072] in place of a scale [1024]; the MLP of the time has
    # [1024, 1024] in place of [2048, 1024]; and there is no projection of the state.
    more = 37 * (1025 * 3072 - 1024) - 1024 * 1024 - 33 * 1024
    assert five.trained - zero.trained == 4 * more
    assert five.frozen == zero.frozen


def hardware(job: Job, **changes) -> Hardware:
    return dataclasses.replace(job.hardware, **changes)


def keeping(remat: str) -> Loss:
    """A loss that keeps 3, 2 or 1 arrays for its backward pass; a network takes long to trace."""
    count = {"none": 3, "mlp": 2, "full": 1}[remat]

    def loss(params, batch, rng):
        x = params["PaliGemma"]["llm"]["embedder"]["input_embedding"]
        for _ in range(count):
            x = jnp.sin(x)
        return jnp.sum(x), {}

    return loss


def test_what_cannot_fit_is_refused_with_the_smallest_change():
    full = dataclasses.replace(job(size=1), loss=keeping)
    need = {
        remat: count(dataclasses.replace(full, hardware=hardware(full, remat=remat))).total
        for remat in ("none", "mlp", "full")
    }

    def refused(size: float) -> str:
        with pytest.raises(InputError, match="GB per device by count") as refusal:
            check(dataclasses.replace(full, hardware=hardware(full, memory_gb=size / GB)))
        return str(refusal.value).split(": ")[1]

    assert refused(need["none"] - 1).startswith("set hardware.remat=mlp (")
    assert refused(need["mlp"] - 1).startswith("set hardware.remat=full (")
    assert refused(100).startswith("no change of layout fits")


def test_advice_is_of_what_can_be_trained():
    """A rule for adapters fits no preset without them, which is then no way out."""
    lora = dataclasses.replace(job(size=1), loss=keeping)
    rules = OptimizerConfig(1e-3, 0, preset="lora", rules=(("lora/.*", 2.0),))
    lora = dataclasses.replace(lora, optimizer=rules, hardware=hardware(lora, memory_gb=1e-7))
    with pytest.raises(InputError, match="no change of layout fits"):
        check(lora)


def test_what_must_divide_what():
    with pytest.raises(InputError, match="batch_size must be a multiple"):
        check(job(micro_batches=3))


def test_shards_are_counted():
    one, eight = (count(job(pi0(), "expert_only", 32, fsdp=fsdp)) for fsdp in (1, 8))
    assert one.trained / eight.trained == pytest.approx(8, rel=0.01)
    assert one.frozen / eight.frozen == pytest.approx(8, rel=0.01)
    assert one.activations > 5 * eight.activations
