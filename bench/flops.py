"""Matmul FLOPs of one update or sampling at full size, counted in the traced program.

python bench/flops.py

Nothing is compiled or allocated. XLA's own count has a loop's body once; here a loop counts as
often as it runs, and a branch as often as it is taken. 1 multiply-add = 2 FLOPs. Only products of
matrices are counted, as in roofline arithmetic.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from naive import two_pass_loss

from pi0_jax.model.config import Pi0Config, pi0, pi05
from pi0_jax.model.pi0 import Pi0
from pi0_jax.policy.policy import branches, sample
from pi0_jax.policy.reference import sample_from_base
from pi0_jax.rl.objectives.base import Objective
from pi0_jax.rl.objectives.cfg import Cfg
from pi0_jax.rl.objectives.cfg_detached import CfgDetached
from pi0_jax.rl.objectives.cfg_dropout import CfgDropout
from pi0_jax.rl.objectives.filtered_bc import FilteredBc
from pi0_jax.rl.objectives.flow_pg import FlowPg
from pi0_jax.rl.objectives.nft import Nft
from pi0_jax.training.fit import ONE_DEVICE, make_init_and_update
from pi0_jax.training.memory import Job, abstract_batch
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.step import SampledLoss
from pi0_jax.training.supervised import flow_matching_loss

CONFIG = pi0()
PRESETS = ("full", "expert_only", "lora")
OBJECTIVES = (FilteredBc(), CfgDropout(), Cfg(), CfgDetached(), Nft(), FlowPg())
TERA = 1e12
CHAIN = (10, 7)
"""Flow steps of a chain, and actions of its robot: only a policy gradient reads chains."""


def traced(function: Callable[..., Any], *arguments: Any) -> float:
    """FLOPs of a function of abstract arguments."""
    return program_flops(jax.make_jaxpr(function)(*arguments).jaxpr)


def program_flops(jaxpr: Any, trips: int = 1) -> float:
    """FLOPs of one run of a program that is the body of a loop of `trips` turns, on average."""
    return sum(_equation_flops(equation, trips) for equation in jaxpr.eqns)


def _equation_flops(equation: Any, trips: int) -> float:
    params = equation.params
    match equation.primitive.name:
        case "dot_general":
            return _product_flops(equation)
        case "scan":
            length = params["length"]
            return length * program_flops(params["jaxpr"].jaxpr, length)
        case "cond":
            # `scan_layers` takes branch 1 for its last layer and branch 0 for the others.
            before, last = (program_flops(branch.jaxpr) for branch in params["branches"])
            return ((trips - 1) * before + last) / trips
        case "while" | "conv_general_dilated":
            raise ValueError(f"{equation.primitive.name}: not known how much it computes")
    inner = [getattr(value, "jaxpr", value) for value in params.values()]
    return sum(program_flops(jaxpr, trips) for jaxpr in inner if hasattr(jaxpr, "eqns"))


def _product_flops(equation: Any) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)


def update_flops(
    loss: Callable[[Pi0], SampledLoss],
    preset: str = "full",
    remat: str = "none",
    cameras: int = 2,
    config: Pi0Config = CONFIG,
) -> float:
    """FLOPs of one update for one window."""
    model = Pi0(config, remat)
    params = model.shapes()
    optimizer = OptimizerConfig(1e-4, 10, preset=preset)
    batch = abstract_batch(config, cameras, 1, chain=CHAIN)
    job = Job(params, lambda _: loss(model), optimizer, batch, ONE_DEVICE)
    return traced(
        make_init_and_update(params, loss(model), optimizer, 1, ONE_DEVICE)[1], *job.shapes()
    )


def objective_flops(objective: Objective, preset: str, config: Pi0Config = CONFIG) -> float:
    """FLOPs of one update for one window, one noise/time sample, two cameras."""
    return update_flops(lambda model: objective.loss(model, 1, "embedding"), preset, config=config)


def sample_flops(guidance: float, cameras: int = 2, config: Pi0Config = CONFIG) -> float:
    """FLOPs of one action chunk in ten Euler steps."""
    model = Pi0(config)
    params = model.shapes()
    noise = jax.ShapeDtypeStruct((1, config.action_horizon, config.action_dim), jnp.float32)
    obs = abstract_batch(config, cameras, 1).obs
    # Without jit the number of steps is a constant, so the loop's turns can be counted.
    run = inspect.unwrap(sample)
    return traced(
        lambda p, o, n: run(model, branches(guidance), p, o, n, 10, guidance), params, obs, noise
    )


def base_flops(*, shared_prefix: bool, config: Pi0Config = CONFIG) -> float:
    """FLOPs of one action chunk in ten Euler steps, guided away from other parameters."""
    model = Pi0(config)
    params = model.shapes()
    noise = jax.ShapeDtypeStruct((1, config.action_horizon, config.action_dim), jnp.float32)
    obs = abstract_batch(config, 2, 1).obs
    how = {"shared_prefix": shared_prefix, "two_prompts": False}
    run = inspect.unwrap(sample_from_base)
    return traced(
        lambda p, b, o, n: run(model, p, b, o, n, 10, 1.5, **how), *[params] * 2, obs, noise
    )


def table(title: str, rows: dict[str, float]) -> None:
    """Prints TFLOP per row, and its ratio to the first row."""
    first = next(iter(rows.values()))
    print(f"\n{title}")
    for name, value in rows.items():
        print(f"| {name:44s} | {value / TERA:8.4f} TF | {value / first:6.4f} |")


def objective_table() -> None:
    """Prints TFLOP of an update by objective and preset, and the ratios to filtered BC."""
    print(f"\none update for one window by objective\n| objective | {' | '.join(PRESETS)} |")
    rows = [[objective_flops(one, preset) for preset in PRESETS] for one in OBJECTIVES]
    for objective, values in zip(OBJECTIVES, rows, strict=True):
        pairs = zip(values, rows[0], strict=True)
        cells = [f"{value / TERA:.3f} ({value / base:.3f})" for value, base in pairs]
        print(f"| {objective} | {' | '.join(cells)} |")


def main() -> None:
    """Prints all tables."""

    def plain(model: Pi0) -> SampledLoss:
        return flow_matching_loss(model, 1)

    def cfg(model: Pi0, samples: int = 1) -> SampledLoss:
        return Cfg(0.1).loss(model, samples, "embedding")

    def gradient(model: Pi0, steps: int = 1) -> SampledLoss:
        return FlowPg().loss(model, steps, "embedding")

    def naive(model: Pi0) -> SampledLoss:
        return two_pass_loss(model, 0.1)

    table(
        "one update for one window, everything trained",
        {
            "plain flow matching": update_flops(plain),
            "CFG, shared prefix": update_flops(cfg),
            "CFG, shared prefix, 2 time samples": update_flops(lambda model: cfg(model, 2)),
            "CFG, shared prefix, 4 time samples": update_flops(lambda model: cfg(model, 4)),
            "CFG, naive two passes": update_flops(naive),
            "policy gradient, 1 flow step": update_flops(gradient),
            "policy gradient, 4 flow steps": update_flops(lambda model: gradient(model, 4)),
            "CFG, shared prefix, third camera masked": update_flops(cfg, cameras=3),
            "CFG, naive two passes, third camera masked": update_flops(naive, cameras=3),
            "pi0.5, plain": update_flops(plain, config=pi05()),
            "pi0.5, CFG, shared prefix": update_flops(cfg, config=pi05()),
        },
    )
    table(
        "the same, CFG with a shared prefix, by preset and remat",
        {
            "full": update_flops(cfg),
            "full, remat mlp": update_flops(cfg, remat="mlp"),
            "full, remat full": update_flops(cfg, remat="full"),
            "expert_only": update_flops(cfg, "expert_only"),
            "lora": update_flops(cfg, "lora"),
        },
    )
    objective_table()
    table(
        "one action chunk, ten Euler steps",
        {
            "unguided": sample_flops(1.0),
            "guided, one pass": sample_flops(2.0),
            "guided by a base with the same VLM": base_flops(shared_prefix=True),
            "guided by a base with another VLM": base_flops(shared_prefix=False),
            "unguided, third camera masked": sample_flops(1.0, cameras=3),
            "pi0.5, unguided": sample_flops(1.0, config=pi05()),
            "pi0.5, guided, one pass": sample_flops(2.0, config=pi05()),
        },
    )


if __name__ == "__main__":
    main()
