"""What a training update needs of a device's memory, known before anything is allocated.

Two numbers, both from shapes alone. By count: state, gradients, and what the backward pass keeps,
read off the traced program. By the compiler: the memory analysis of the program compiled ahead of
time for abstract arrays; on a CPU it counts float32 copies of bfloat16 weights, which a GPU does
not make.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding

from pi0_jax.errors import InputError
from pi0_jax.model.config import Pi0Config
from pi0_jax.model.mesh import FSDP, leaf_spec
from pi0_jax.training.fit import jit_on_mesh, make_init_and_update
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.sharding import make_mesh, shardings
from pi0_jax.training.step import Loss, SampledLoss, TrainState, merge, split
from pi0_jax.types import Batch, Observation, path_name

GB = 10**9
_TOTAL_STEPS = 1  # the schedule's length changes no shape


@dataclass(frozen=True)
class Job:
    """All parts of a training update that is not made yet.

    Attributes:
        params: parameter tree, arrays or shapes.
        loss: `Hardware.remat` -> loss.
        optimizer: what is trained, and how.
        batch: the whole batch, arrays or shapes.
        hardware: layout of the update on the devices.
    """

    params: Any
    loss: Callable[[str], Loss]
    optimizer: OptimizerConfig
    batch: Batch
    hardware: Hardware

    def parts(self) -> tuple[Callable[[Any], TrainState], Any]:
        """The functions of `make_init_and_update`: parameters -> state, and the update."""
        loss = self.loss(self.hardware.remat)
        return make_init_and_update(self.params, loss, self.optimizer, _TOTAL_STEPS, self.hardware)

    def shapes(self) -> tuple[TrainState, Batch, jax.Array]:
        """Shapes of the update's arguments: state, batch and random key."""
        state = jax.eval_shape(self.parts()[0], _shapes(self.params))
        return state, _shapes(self.batch), jax.eval_shape(lambda: jax.random.key(0))


@dataclass(frozen=True)
class Budget:
    """Bytes on one device, by count.

    Attributes:
        trained: trained parameters.
        frozen: frozen parameters.
        optimizer: optimizer state, and copies of trained parameters: their moving average, and
            those that acted in the newest rollouts.
        gradients: gradients of trained leaves; with micro-batches also the running sum.
        activations: values that the forward pass keeps for the backward pass.
        working: values of one layer while it is computed or differentiated, and its gathered
            weights and gradient.
    """

    trained: int
    frozen: int
    optimizer: int
    gradients: int
    activations: int
    working: int

    @property
    def total(self) -> int:
        """The sum."""
        return sum(vars(self).values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size / GB:.3g}" for name, size in vars(self).items())
        return f"{self.total / GB:.3g} GB per device by count ({parts})"


def abstract_batch(
    config: Pi0Config,
    cameras: int,
    size: int,
    *,
    two_prompts: bool = False,
    chain: tuple[int, int] | None = None,
) -> Batch:
    """The shapes of a batch of `size` windows.

    Args:
        config: architecture of the model.
        cameras: number of cameras c.
        size: number of windows b.
        two_prompts: the unconditional branch has a prompt of its own.
        chain: flow steps K of the chunks' chains, and the robot's action dimensions e; None for
            windows without chains.
    """

    def shape(dtype: str, *axes: int) -> Any:
        """An abstract array of shape [size, *axes]."""
        return jax.ShapeDtypeStruct((size, *axes), np.dtype(dtype))

    pixels = config.vision.image_size
    obs = Observation(
        images=shape("uint8", cameras, pixels, pixels, 3),  # [b, c, h, w, 3]
        image_mask=shape("bool", cameras),  # [b, c]
        state=shape("float32", config.action_dim),  # [b, d]
        prompt=shape("int32", config.prompt_length),  # [b, t]
        prompt_mask=shape("bool", config.prompt_length),  # [b, t]
    )
    uncond = (obs.prompt, obs.prompt_mask) if two_prompts else (None, None)
    horizon, (steps, actions) = config.action_horizon, chain or (0, 0)
    return Batch(
        obs=obs,
        uncond_prompt=uncond[0],
        uncond_prompt_mask=uncond[1],
        actions=shape("float32", horizon, config.action_dim),  # [b, H, d]
        action_mask=shape("bool", horizon),  # [b, H]
        weight=shape("float32"),  # [b]
        # [b, K + 1, H, d] and [b, K, H, e]
        chain=shape("float32", steps + 1, horizon, config.action_dim) if chain else None,
        chain_log_prob=shape("float32", steps, horizon, actions) if chain else None,
    )


def count(job: Job) -> Budget:
    """The budget from shapes and from the traced loss; nothing is compiled.

    Raises:
        InputError: as `create_training`, or the batch cannot be cut.
    """
    hardware = job.hardware
    size = job.batch.weight.shape[0]
    hardware.check_batch(size)
    state, batch, _ = job.shapes()
    trained, frozen = split(state.params, job.optimizer.all_rules)
    # With micro-batches a part's gradient and the sum so far exist at the same time.
    sums = 2 if hardware.micro_batches > 1 else 1
    share = size // (hardware.devices * hardware.micro_batches)
    # What one device computes at a time: [b, ...] -> [share, ...].
    part = jax.tree.map(lambda x: jax.ShapeDtypeStruct((share, *x.shape[1:]), x.dtype), batch)
    # What the loss reads besides: copies of trained leaves, counted with the optimizer.
    fixed = frozen | state.acting_leaves()
    kept = _kept_bytes(job.loss(hardware.remat), trained, fixed, part)
    # Remat keeps less, but each layer it computes again needs all its values for a moment.
    everything = kept
    if hardware.remat != "none":
        everything = _kept_bytes(job.loss("none"), trained, fixed, part)
    depth = _layers(state.params)
    return Budget(
        trained=_local_bytes(trained, hardware.fsdp),
        frozen=_local_bytes(frozen, hardware.fsdp),
        optimizer=_local_bytes((state.opt_state, state.ema, state.acting), hardware.fsdp),
        gradients=sums * _local_bytes(trained, hardware.fsdp),
        activations=kept,
        working=everything // depth + _gathered_bytes(state.params, hardware.fsdp),
    )


def compiled_bytes(job: Job, device: Any = None) -> int | None:
    """Bytes on one device that the compiled update needs; None where the backend gives none.

    Args:
        job: the update to compile.
        device: device to compile for, which may belong to a machine that is only described; None
            compiles for the devices of this machine.
    """
    state, batch, rng = job.shapes()
    step = job.parts()[1]
    if device is not None:
        there = SingleDeviceSharding(device)
        jitted = jax.jit(step, donate_argnums=0, in_shardings=there, out_shardings=there)
    elif job.hardware.devices == 1:
        jitted = jax.jit(step, donate_argnums=0)
    else:
        mesh = make_mesh(job.hardware)
        jitted = jit_on_mesh(step, shardings(state, mesh), mesh)
    found = jitted.lower(state, batch, rng).compile().memory_analysis()
    if found is None:
        return None
    # Donated outputs lie in the buffers of arguments: counted once.
    fresh = found.output_size_in_bytes - found.alias_size_in_bytes
    return found.argument_size_in_bytes + fresh + found.temp_size_in_bytes


def check(job: Job) -> Budget:
    """Counts the memory, and refuses an update that cannot fit, if the device's memory is known.

    Raises:
        InputError: too large; the message has the budget and the smallest change that would fit.
    """
    budget, limit = count(job), limit_of(job.hardware)
    if limit is None or budget.total <= limit:
        return budget
    raise InputError(f"{budget}, but a device has {limit / GB:.2f} GB: {_advice(job, limit)}")


def _advice(job: Job, limit: int) -> str:
    """The first change that would fit, mildest first: each alone, then with all before it."""
    tried = job
    for name, change in _changes(job):
        alone, tried = change(job), change(tried)
        for candidate, text in ((alone, f"set {name}"), (tried, f"set {name} and all before it")):
            need = _need(candidate)
            if need is not None and need <= limit:
                return f"{text} ({need / GB:.2f} GB)"
    return "no change of layout fits: use more devices (hardware.fsdp) or a smaller model"


def _need(job: Job) -> int | None:
    """Bytes that a job needs; None where its parts do not fit, such as a rule that nothing has."""
    try:
        return count(job).total
    except InputError:
        return None


def _changes(job: Job) -> list[tuple[str, Callable[[Job], Job]]]:
    """First what costs only time, then frozen leaves' precision, then what trains fewer leaves."""

    def hardware(**values: Any) -> Callable[[Job], Job]:
        """A change of layout."""
        return lambda job: replace(job, hardware=replace(job.hardware, **values))

    def preset(name: str) -> Callable[[Job], Job]:
        """A change of preset."""
        return lambda job: replace(job, optimizer=replace(job.optimizer, preset=name))

    # There cannot be more micro-batches than windows per device.
    most = job.batch.weight.shape[0] // job.hardware.devices
    cuts = [n for n in range(job.hardware.micro_batches + 1, most + 1) if most % n == 0]
    changes = [(f"hardware.remat={remat}", hardware(remat=remat)) for remat in ("mlp", "full")]
    changes += [(f"hardware.micro_batches={n}", hardware(micro_batches=n)) for n in cuts]
    changes.append(("hardware.frozen_dtype=bfloat16", hardware(frozen_dtype="bfloat16")))
    less = ("lora", "expert_only")
    return changes + [(f"optimizer.preset={name}", preset(name)) for name in less]


def limit_of(hardware: Hardware) -> int | None:
    """Bytes of memory of one device: as set, or as the device says; None where it says nothing."""
    if hardware.memory_gb:
        return int(hardware.memory_gb * GB)
    # A CPU gives None: its memory is that of the host, which other programs share.
    stats = jax.local_devices()[0].memory_stats()
    return stats["bytes_limit"] if stats and "bytes_limit" in stats else None


def _kept_bytes(loss: Loss, trained: Any, frozen: Any, batch: Batch) -> int:
    """Bytes of the values that the backward pass reads, parameters and batch not counted."""

    def kept(trained: Any, frozen: Any, batch: Batch, drawn: Any) -> list[Any]:
        """All arrays that the backward pass reads."""

        def value(trained: Any) -> Any:
            """The loss as a function of the trained leaves."""
            params = merge(trained, frozen)
            if isinstance(loss, SampledLoss):
                return loss.evaluate(params, batch, drawn)[0]
            return loss(params, batch, drawn)[0]  # one of a user's own, which draws by itself

        # The function that `jax.vjp` returns is a tree: its leaves are the residuals, the arrays
        # saved by the forward pass for the backward pass.
        return jax.tree.leaves(jax.vjp(value, trained)[1])

    # Traced with shapes alone: no array of the loss is ever computed.
    rng = jax.eval_shape(lambda: jax.random.key(0))
    drawn = jax.eval_shape(loss.sample, rng, batch) if isinstance(loss, SampledLoss) else rng
    program = jax.make_jaxpr(kept)(trained, frozen, batch, drawn).jaxpr
    # Residuals that are inputs (parameters, batch) exist anyway, and one may be listed twice.
    given = set(map(id, program.invars))
    fresh = {id(var): var.aval for var in program.outvars if id(var) not in given}
    return sum(_bytes(aval) for aval in fresh.values())


def _layers(params: Any) -> int:
    # Layers are stacked along axis 0: [l, hidden, width].
    return len(params["PaliGemma"]["llm"]["layers"]["mlp"]["linear"])


def _gathered_bytes(params: Any, fsdp: int) -> int:
    """One layer's weights on all devices, and their gradient: both bfloat16, as float32 once."""
    layers = jax.tree.leaves(params["PaliGemma"]["llm"]["layers"])
    return sum(_bytes(leaf) // leaf.shape[0] for leaf in layers) if fsdp > 1 else 0


def _local_bytes(tree: Any, fsdp: int) -> int:
    """Bytes of a tree on one device, with the same cuts as `sharding.shardings`."""
    total = 0
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = path_name(path)
        cut = FSDP in leaf_spec(name, leaf.shape, fsdp)
        total += _bytes(leaf) // (fsdp if cut else 1)
    return total


def _bytes(leaf: Any) -> int:
    # In int64 on every platform: activations of a large batch can have over 2^31 elements.
    return int(np.prod(leaf.shape, dtype=np.int64)) * leaf.dtype.itemsize


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
