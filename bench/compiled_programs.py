"""The programs of `compiled.py`: how each is lowered for given devices, and its ideal.

The ideal of a sampler: the prefix and each Euler step take the longer of their products at peak
and of one read of their weights in bfloat16. That of an update: its products without
rematerialisation at peak, and one pass of AdamW over what is trained. Collectives of an ideal
update: each layer's weights gathered for the forward pass and, where anything of it is trained, for
the backward one, and its gradient summed once, all of them in bfloat16.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from flops import traced
from jax.sharding import AxisType, Mesh, SingleDeviceSharding
from machines import Machine

from pi0_jax.io.tree_check import leaves_by_path
from pi0_jax.model.acting import Held, acting_form
from pi0_jax.model.config import pi0
from pi0_jax.model.pi0 import Pi0, prefix_params
from pi0_jax.policy.policy import branches, sample
from pi0_jax.rl.objectives.cfg import Cfg
from pi0_jax.training.fit import jit_on_mesh
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.memory import Job, abstract_batch
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.sharding import shardings
from pi0_jax.training.step import split

CONFIG, CAMERAS, TIME_SAMPLES = pi0(), 2, 2
EULER_STEPS = 10
ADAMW_BYTES = 28  # per parameter: three float32 read and written, and the gradient read


@dataclass(frozen=True)
class Program:
    """One row of the table.

    Attributes:
        name: such as "full 128, fsdp 8".
        lower: gives the program, lowered for the devices.
        ideal_seconds: the least time of one device.
        ideal_collectives: the fewest bytes of collectives of one device.
    """

    name: str
    lower: Callable[[], Any]
    ideal_seconds: float
    ideal_collectives: float = 0.0


def programs(devices: list[Any], machine: Machine, *, uncast: bool) -> list[Program]:
    """The programs of a machine.

    Args:
        devices: described devices.
        machine: their numbers.
        uncast: sample with float32 weights.
    """
    if machine.devices == 1:
        scales = ((1, 1.0), (8, 1.0), (64, 1.0), (8, 2.0))
        sampled = [_sampler(devices[0], machine, *scale, uncast) for scale in scales]
        frozen = Hardware(frozen_dtype="bfloat16")
        return [
            *sampled,
            _update(devices, machine, "expert_only", 32, frozen),
            _update(devices, machine, "full", 32, Hardware(remat="full")),
        ]
    parts = Hardware(fsdp=machine.devices, remat="full")
    cut, copied = (
        Hardware(fsdp=machine.devices, frozen_dtype="bfloat16"),
        Hardware(data=machine.devices, frozen_dtype="bfloat16"),
    )
    return [
        _update(devices, machine, "full", 128, parts),
        _update(devices, machine, "expert_only", 128, cut),
        _update(devices, machine, "expert_only", 128, copied),
    ]


def _sampler(device: Any, machine: Machine, rows: int, guidance: float, uncast: bool) -> Program:
    model, there = Pi0(CONFIG), SingleDeviceSharding(device)
    shapes = model.shapes()
    params = shapes if uncast else _held(shapes)
    obs = abstract_batch(CONFIG, CAMERAS, rows).obs
    noise = jax.ShapeDtypeStruct((rows, CONFIG.action_horizon, CONFIG.action_dim), jnp.float32)
    scalars = jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((), jnp.float32)
    run, ids = inspect.unwrap(sample), branches(guidance)

    def drawn(params: Any, obs: Any, noise: Any, steps: Any, scale: Any) -> Any:
        """The chunks of one call."""
        return run(model, ids, params, obs, noise, steps, scale)

    lower = jax.jit(drawn, in_shardings=there, out_shardings=there).lower
    prefix = _time(
        machine, _bfloat16(prefix_params(shapes)), traced(model.encode_prefix, shapes, obs)
    )
    step = _time(machine, _expert(shapes), _step_flops(model, shapes, obs, rows, len(ids)))
    name = f"sample {rows}" + (" guided" if len(ids) > 1 else "")
    return Program(name, lambda: lower(params, obs, noise, *scalars), prefix + EULER_STEPS * step)


def _update(
    devices: list[Any], machine: Machine, preset: str, size: int, hardware: Hardware
) -> Program:
    optimizer = OptimizerConfig(2.5e-5, 20, preset=preset, rules=(("cond_embed", 20.0),))
    shapes = Pi0(CONFIG).shapes()

    def job(layout: Hardware) -> Job:
        """The update with this layout."""
        return Job(
            shapes,
            lambda remat: Cfg(0.1).loss(Pi0(CONFIG, remat), TIME_SAMPLES, "embedding"),
            optimizer,
            abstract_batch(CONFIG, CAMERAS, size),
            layout,
        )

    def lower() -> Any:
        """For all devices."""
        state, batch, rng = job(hardware).shapes()
        step = job(hardware).parts()[1]
        if hardware.devices == 1:
            there = SingleDeviceSharding(devices[0])
            jitted = jax.jit(step, donate_argnums=0, in_shardings=there, out_shardings=there)
        else:
            grid = np.array(devices).reshape(hardware.data, hardware.fsdp)
            mesh = Mesh(grid, ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
            jitted = jit_on_mesh(step, shardings(state, mesh), mesh)
        return jitted.lower(state, batch, rng)

    trained, _ = split(shapes, optimizer.all_rules)
    plain = job(Hardware())
    flops = traced(plain.parts()[1], *plain.shapes()) / hardware.devices
    adamw = ADAMW_BYTES * sum(x.size for x in trained.values()) / hardware.fsdp
    layout = f", fsdp {hardware.fsdp}" if hardware.fsdp > 1 else ""
    layout += f", data {hardware.data}" if hardware.data > 1 else ""
    return Program(
        f"{preset} {size}{layout}",
        lower,
        flops / machine.peak + adamw / machine.bandwidth,
        _collectives(shapes, trained, hardware),
    )


def _collectives(shapes: Any, trained: dict[str, Any], hardware: Hardware) -> float:
    if hardware.devices == 1:
        return 0.0
    flat = flax.traverse_util.flatten_dict(shapes, sep="/")
    # Words are looked up where their parts lie, and their gradient is as small as a batch.
    flat = {name: leaf for name, leaf in flat.items() if "embedder" not in name}
    summed = _bfloat16({name: leaf for name, leaf in flat.items() if name in trained})
    return summed + (_bfloat16(flat) + summed if hardware.fsdp > 1 else 0.0)


def _step_flops(model: Pi0, params: Any, obs: Any, rows: int, branches: int) -> float:
    """Of one Euler step."""
    shape = rows, branches, CONFIG.action_horizon, CONFIG.action_dim
    x, time = (jax.ShapeDtypeStruct(s, jnp.float32) for s in (shape, shape[:2]))
    ids = jax.ShapeDtypeStruct(shape[:2], jnp.int32)
    cache = jax.eval_shape(model.encode_prefix, params, obs)
    return traced(model.velocity, params, cache, obs.state, x, time, ids)


def _held(shapes: Any) -> Any:
    """Shapes in the form in which a policy holds its parameters."""
    leaves = leaves_by_path(shapes)

    def one(held: Held) -> Any:
        """One array."""
        parts = [leaves[path] for path in held.paths]
        return jax.eval_shape(lambda given: held.made([held.part(x) for x in given]), parts)

    return jax.tree.map(one, acting_form(shapes, CONFIG.compute_dtype))


def _expert(params: Any) -> float:
    """Bytes of everything that an Euler step reads."""
    flat = flax.traverse_util.flatten_dict(params, sep="/")
    prefix = "/img/", "embedder"
    own = {n: x for n, x in flat.items() if "_1/" in n or "PaliGemma" not in n}
    return _bfloat16({n: x for n, x in own.items() if not any(part in n for part in prefix)})


def _bfloat16(tree: Any) -> float:
    return 2.0 * sum(leaf.size for leaf in jax.tree.leaves(tree))


def _time(machine: Machine, size: float, flops: float) -> float:
    return max(size / machine.bandwidth, flops / machine.peak)
