"""Every objective trains with every preset: traced only, so shapes, and that nothing is missing."""

import jax
import pytest
from gradients import SAMPLES
from tiny import CONFIG, MODEL, RIPT

from pi0_jax.rl.config import OBJECTIVES
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.memory import Job, abstract_batch
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.step import split

WATCHED = ("PaliGemma/img/head/kernel", "action_out_proj/kernel", "lora/layers/attn/q_einsum/w/a")
# Which of these leaves a preset trains.
PRESETS = {"full": WATCHED[:2], "expert_only": WATCHED[1:2], "lora": WATCHED[1:]}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_update(params, name, preset):
    objective = getattr(RIPT, name)
    loss = objective.loss(MODEL, SAMPLES, "embedding")
    optimizer = OptimizerConfig(1e-3, warmup_steps=1, preset=preset)
    windows = abstract_batch(CONFIG, 2, 4, chain=(10, 7) if name == "flow_pg" else None)
    job = Job(params, lambda remat: loss, optimizer, windows, Hardware(micro_batches=2))
    state, *rest = job.shapes()
    after, metrics = jax.eval_shape(job.parts()[1], state, *rest)
    assert jax.tree.map(lambda leaf: leaf.shape, after) == jax.tree.map(lambda x: x.shape, state)
    assert metrics["loss"].shape == metrics["grad_norm"].shape == ()
    trained, _ = split(state.params, optimizer.all_rules)
    assert tuple(leaf for leaf in WATCHED if leaf in trained) == PRESETS[preset]
    # A mirrored target needs the parameters that acted; no other loss pays for a copy of them.
    assert (state.acting is not None) == (name == "nft")
