"""Trains two steps on a mesh and writes what came out: run by test_sharding in fresh processes.

Where one process has several devices it writes the compiled program too: OUT.hlo; on one device the
state after each step, as checkpoints in the folder OUT.

python tests/mesh_worker.py OUT.npz DATA FSDP MICRO_BATCHES [COORDINATOR HOSTS HOST]
"""

import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from pi0_jax.model import mesh
from pi0_jax.training import sharding


def cut_small_leaves() -> None:
    """The tiny model's larger leaves are cut, as those of a large model are."""
    mesh.MIN_SIZE = 64


def parts() -> tuple:
    """Parameters, loss, optimizer and what stays frozen."""
    from tiny import MODEL

    from pi0_jax.rl.objectives.cfg import Cfg
    from pi0_jax.testing import random_params
    from pi0_jax.training.frozen import Frozen
    from pi0_jax.training.optimizer import OptimizerConfig
    from pi0_jax.training.step import split

    params = random_params()
    # Constant rate, and an epsilon that keeps Adam from turning rounding into a step.
    config = OptimizerConfig(1e-2, 0, final_fraction=1.0, rules=(("PaliGemma/img/.*", 0.0),))
    # The acting parameters lie beside the trained ones; this loss has no use for them.
    loss = replace(Cfg(0.1).loss(MODEL, 1, "embedding"), reads_acting=True)
    return params, loss, config, Frozen(split(params, config.all_rules)[1])


def main() -> None:
    cut_small_leaves()
    out, *numbers = sys.argv[1:5]
    data, fsdp, micro_batches = map(int, numbers)
    if sys.argv[5:]:
        jax.distributed.initialize(sys.argv[5], int(sys.argv[6]), int(sys.argv[7]))
    # Imported late: a process joins the others before its first use of JAX.
    from pi0_jax.testing import batch
    from pi0_jax.training import checkpoint
    from pi0_jax.training.fit import (
        create_training,
        fit,
        jit_on_mesh,
        make_init_and_update,
    )
    from pi0_jax.training.hardware import Hardware

    params, loss, config, frozen = parts()
    hardware = Hardware(data, fsdp, micro_batches)
    state, update = create_training(params, loss, config, 2, hardware)
    losses = []
    key = jax.random.key(1)
    for until in (1, 2):
        state = fit(state, update, lambda step: batch(16, step), until, key, 1,
                    lambda step, values: losses.append(values["loss"]))  # fmt: skip
        if jax.device_count() == 1:
            checkpoint.save(Path(out).with_suffix(""), until, state, {}, frozen=frozen)
    embedding = state.params["PaliGemma"]["llm"]["embedder"]["input_embedding"]
    gating = state.opt_state[1][0].mu["PaliGemma/llm/layers/mlp/gating_einsum"]
    acting = state.with_acting(False).acting["PaliGemma/llm/layers/mlp/gating_einsum"]
    found = {
        "losses": np.array(losses),
        "embedding_shard": np.array(embedding.addressable_shards[0].data.shape),
        "moment_shard": np.array(gating.addressable_shards[0].data.shape),
        "acting_shard": np.array(acting.addressable_shards[0].data.shape),
    }
    whole = sharding.gather(state.params)
    found |= {f"leaf{i:02}": leaf for i, leaf in enumerate(jax.tree.leaves(whole))}
    if jax.process_index() == 0:
        np.savez(Path(out), **found)
    if jax.process_count() == 1 < jax.device_count():
        _, step = make_init_and_update(params, loss, config, 2, hardware)
        devices = sharding.make_mesh(hardware)
        shapes = state, batch(16), key
        layout = sharding.shardings(state, devices)
        text = jit_on_mesh(step, layout, devices).lower(*shapes).compile().as_text()
        Path(out).with_suffix(".hlo").write_text(text)


if __name__ == "__main__":
    main()
