"""The training loop: state and batches in, state out."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from pi0_jax.errors import InputError
from pi0_jax.model import lora
from pi0_jax.training.finite import DivergedError
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.micro_batches import accumulated_gradient
from pi0_jax.training.optimizer import OptimizerConfig, check_rules, make_optimizer
from pi0_jax.training.sharding import everywhere, make_mesh, over_batch, place_batch, shardings
from pi0_jax.training.step import (
    OWN,
    Gradient,
    Loss,
    Metrics,
    SampledLoss,
    TrainState,
    init_state,
    make_step,
    whole_gradient,
    without_own,
)
from pi0_jax.training.trim_prompts import trim_prompts
from pi0_jax.types import Batch, path_name

Update = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]
"""(state, host batch, rng) -> (state, metrics); the state is donated."""

ONE_DEVICE = Hardware()


def create_training(
    params: Any,
    loss: Loss,
    config: OptimizerConfig,
    total_steps: int,
    hardware: Hardware = ONE_DEVICE,
) -> tuple[TrainState, Update]:
    """A fresh training state and its update, on one device or on a mesh.

    Args:
        params: whole parameter tree, on the host or a device; it is copied.
        loss: function to minimise; a `SampledLoss` where there are micro-batches.
        config: settings of the optimizer.
        total_steps: length of the learning-rate schedule, in optimizer steps.
        hardware: layout of the update on the devices.

    Raises:
        InputError: an optimizer rule matches no parameter, or all are frozen; the mesh does not
            fit the devices.
    """
    init_fn, step = make_init_and_update(params, loss, config, total_steps, hardware)
    if hardware.devices == 1:
        # Donated: the new state takes over the buffers of the old one, so memory holds one state.
        jitted = jax.jit(step, donate_argnums=0)
        return init_fn(params), _placing(jitted, jax.device_put)
    mesh = make_mesh(hardware)
    # From shapes alone: the layout must be known before the first array of the state exists.
    layout = shardings(jax.eval_shape(init_fn, params), mesh)
    # Compiled with its layout, so that optimizer moments are made in parts and never whole.
    state = jax.jit(init_fn, out_shardings=layout)(params)
    jitted = jit_on_mesh(step, layout, mesh)
    return state, _placing(jitted, lambda batch: place_batch(batch, mesh))


def make_init_and_update(
    params: Any, loss: Loss, config: OptimizerConfig, total_steps: int, hardware: Hardware
) -> tuple[Callable[[Any], TrainState], Update]:
    """Two pure functions: parameters -> first state, and the update (see `create_training`)."""
    # A plain function has none of these needs.
    needs = loss if isinstance(loss, SampledLoss) else None
    more = _more_params(config, needs)
    # Shapes alone: rules are checked before minutes of copying.
    leaves = jax.tree_util.tree_flatten_with_path(jax.eval_shape(more, params))[0]
    paths = [path_name(path) for path, _ in leaves]
    rules = config.all_rules
    check_rules(paths, rules)
    acting = bool(needs and needs.reads_acting)
    optimizer = make_optimizer(config, total_steps, needs.apart if needs else None)

    def init_fn(params: Any) -> TrainState:
        """Makes the state at step 0."""
        dtype, ema = hardware.frozen_dtype or None, config.ema_decay > 0
        return init_state(more(params), optimizer, rules, dtype, ema, acting)

    return init_fn, make_step(_gradient(loss, hardware), optimizer, rules, config.ema_decay)


def _placing(jitted: Update, place: Callable[[Batch], Batch]) -> Update:
    def update(state: TrainState, batch: Batch, rng: jax.Array) -> tuple[TrainState, Metrics]:
        """Places the host batch, prompts int32[b, t] cut on the host, and takes one step."""
        # On the host: jit would need the length as a static value.
        return jitted(state, place(trim_prompts(batch)), rng)

    return update


def jit_on_mesh(step: Update, layout: Any, mesh: Mesh) -> Any:
    """The update compiled for a mesh; the new state lies where the old one lay."""
    replicated = everywhere(mesh)

    def step_on_mesh(state: TrainState, batch: Batch, rng: jax.Array) -> tuple[TrainState, Metrics]:
        """The update, traced where the network sees the mesh (`model/mesh.py`)."""
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return step(state, batch, rng)

    # The same layout in and out: only then can the donated buffers be reused.
    return jax.jit(
        step_on_mesh,
        donate_argnums=0,
        in_shardings=(layout, over_batch(mesh), replicated),
        out_shardings=(layout, replicated),
    )


def final_params(state: TrainState) -> Any:
    """The parameters of the policy, on the device: the moving average if kept, adapters merged."""
    return lora.merge(without_own(state.averaged()))


def _more_params(config: OptimizerConfig, needs: SampledLoss | None) -> Callable[[Any], Any]:
    """Parameters of a network -> all that are trained: adapters, and what the loss has."""
    own = {OWN: needs.own} if needs and needs.own is not None else {}

    def more(params: Any) -> Any:
        """They are added first: rules and optimizer must see them."""
        # A fixed key: adapters of every run start from the same values.
        adapted = config.preset == "lora"
        return (lora.with_adapters(params, jax.random.key(0)) if adapted else params) | own

    return more


def _gradient(loss: Loss, hardware: Hardware) -> Gradient:
    if hardware.micro_batches == 1:
        return whole_gradient(loss)
    # A loss that draws inside would draw other noise for each part than for the whole batch.
    if not isinstance(loss, SampledLoss):
        raise InputError("hardware.micro_batches needs a loss that draws for the whole batch")
    return accumulated_gradient(loss, hardware.micro_batches)


def fit(
    state: TrainState,
    update: Update,
    batch_of: Callable[[int], Batch],
    until: int,
    rng: jax.Array,
    log_every: int,
    log: Callable[[int, dict[str, float]], None],
    enough: Callable[[dict[str, float]], bool] = lambda values: False,
    stop: Callable[[], bool] = lambda: False,
) -> TrainState:
    """Updates until step `until`, or until `enough` or `stop`.

    Args:
        state: the state to continue from; it is donated.
        update: the update from `create_training`.
        batch_of: step -> host batch; a function of the step alone, so a resumed run continues
            with the batches of an unbroken one.
        until: step to stop before.
        rng: key of the run; each update folds it with its step.
        log_every: steps between two reads of the metrics; each read waits for the device.
        log: called with (steps done, metrics).
        enough: called with the metrics after `log`; True ends the updates there.
        stop: called before each update; True ends the updates there.

    Raises:
        DivergedError: the loss is no longer finite.
    """
    for step in range(int(state.step), until):
        if stop():
            break
        state, metrics = update(state, batch_of(step), rng)
        # Metrics stay on the device until read: the host may run ahead and prepare batches.
        if (step + 1) % log_every == 0 or step + 1 == until:
            values = {name: float(value) for name, value in jax.device_get(metrics).items()}
            # Written so that NaN fails too: NaN < inf is false.
            if not abs(values["loss"]) < float("inf"):
                raise DivergedError(f"loss is {values['loss']} at step {step + 1}")
            log(step + 1, values)
            if enough(values):
                break
    return state
