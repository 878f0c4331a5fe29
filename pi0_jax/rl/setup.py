"""What a RIPT loop holds: the fixed parts, and the value that one iteration hands to the next.

Axis letters: b batch, m window, H action horizon, d padded action dimension.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from pi0_jax.data.demonstrations import Demonstrations, WindowSource
from pi0_jax.env.base import Engine, Task
from pi0_jax.errors import InputError
from pi0_jax.model.pi0 import Pi0
from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.policy.policy import Policy
from pi0_jax.rl.config import RiptConfig
from pi0_jax.rl.init_states import DEMONSTRATIONS, FRESH, InitStateSchedule
from pi0_jax.rl.iteration import demo_windows
from pi0_jax.rl.stop import Outcome
from pi0_jax.run.batch_shapes import batch_shapes
from pi0_jax.run.seeds import first_state
from pi0_jax.run.session import RunSettings
from pi0_jax.training.fit import ONE_DEVICE, Update
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.memory import Budget
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.setup import set_up_training
from pi0_jax.training.step import Loss, Params, TrainState
from pi0_jax.types import Batch

LossOf = Callable[[Pi0], Loss]
"""Network -> loss(params, batch, rng) -> (scalar to minimise, metrics by name).

A batch holds b windows, actions float32[b, H, d] and weight float32[b]. With micro-batches the loss
must be a `SampledLoss`, because it draws for the whole batch.
"""

ROWS = RunSettings.rows
"""Observations per call of the policy in rollouts, if nothing else is given."""


@dataclass(frozen=True)
class LoopSetup:
    """What stays the same over all iterations of one loop.

    Attributes:
        config: what an iteration collects and trains on.
        base: the policy that the loop starts from.
        policy: acts in the rollouts, with the newest parameters.
        tasks: at least one.
        engine: runs the simulators.
        demos: windows of demonstrations, actions float32[m, H, d]; None where batches hold none.
        update: the jitted update.
        budget: memory that an update needs on one device.
        seed: seed of the run; every random number of the loop is a function of it.
        first_step: optimizer steps before RL, to number optimizer steps.
    """

    config: RiptConfig
    base: PolicyFolder
    policy: Policy
    tasks: tuple[Task, ...]
    engine: Engine
    demos: WindowSource | None
    update: Update
    budget: Budget
    seed: int
    first_step: int


@dataclass(frozen=True)
class LoopState:
    """What one iteration hands to the next; with the setup it determines all that follows.

    Attributes:
        iteration: number of iterations done.
        train_state: parameters and optimizer. The next iteration donates it to its updates.
        init_states: position in the plan of initial states.
        buffer: replay buffer: iteration -> its training windows, actions float32[m, H, d]; only
            iterations that gave windows and are still in the buffer.
        outcomes: how the rollouts of iterations 1, 2, ... ended.
        best: parameters, on the host, of the policy whose rollouts succeeded most; None without
            `max_drop`, which alone has a use for them.
    """

    iteration: int
    train_state: TrainState
    init_states: InitStateSchedule
    buffer: Mapping[int, Batch] = field(default_factory=dict)
    outcomes: tuple[Outcome, ...] = ()
    best: Params | None = None


def create_loop(
    policy: PolicyFolder,
    tasks: Sequence[Task],
    engine: Engine,
    config: RiptConfig,
    optimizer: OptimizerConfig,
    *,
    demonstrations: Demonstrations | None = None,
    loss: LossOf | None = None,
    seed: int = 0,
    rows: int = ROWS,
    hardware: Hardware = ONE_DEVICE,
    first_step: int = 0,
) -> tuple[LoopSetup, LoopState]:
    """The fixed parts of a RIPT loop, and its state before the first iteration.

    Args:
        policy: the policy to start from.
        tasks: what the policy is trained on; they take turns.
        engine: runs the simulators.
        config: settings of RIPT.
        optimizer: settings of the optimizer.
        demonstrations: the source of `config.demo_fraction` of every batch.
        loss: network -> loss to minimise; None for the objective that `config` names.
        seed: seed of the run.
        rows: observations per call of the policy; results depend on it, as rounding does.
        hardware: the layout of an update.
        first_step: optimizer steps before RL; part of the key of the rollouts' noise.

    Raises:
        InputError: settings that contradict each other, the policy or the hardware.
    """
    # All checks first: creating the training state may take minutes and gigabytes.
    _check(policy, tasks, config, optimizer, demonstrations)
    hardware.check_batch(config.batch_size)
    train_state, update, budget = set_up_training(
        # They are copied, so that updates may donate the state and keep `policy` whole.
        policy.params,
        policy.spec.model,
        loss or partial(_objective, config=config),
        optimizer,
        # The learning-rate schedule spans all iterations, also those that will have no update.
        config.iterations * config.updates_per_iteration,
        batch_shapes(policy.spec, config.batch_size, chains=config.chosen.rollout_noise > 0),
        hardware,
    )
    transforms, horizon = policy.transforms, policy.spec.model.action_horizon
    demos = demo_windows(demonstrations, config, transforms, horizon) if demonstrations else None
    # These parameters stay on the host: every rollout gets the newest ones from the train state,
    # and a device of 16 GB has no room for a second set.
    acting = Policy(Pi0(policy.spec.model), policy.params, transforms, config.guidance, rows=rows)
    parts = (config, policy, acting, tuple(tasks), engine, demos, update, budget)
    setup = LoopSetup(*parts, seed, first_step)
    return setup, LoopState(0, train_state, _first_init_states(config, seed))


def _objective(network: Pi0, config: RiptConfig) -> Loss:
    return config.chosen.loss(network, config.time_samples, config.branch_mode)


def _first_init_states(config: RiptConfig, seed: int) -> InitStateSchedule:
    """Fresh states differ between run seeds, as demonstrations do; a named finite set is shared."""
    groups = config.groups
    # Demonstrations were started from states of this run's seed, so their set moves with it.
    own = not groups.num_states or groups.states == DEMONSTRATIONS
    first = first_state(seed, groups.first_seed) if own else groups.first_seed
    return InitStateSchedule(first, stream=seed)


def _check(
    policy: PolicyFolder,
    tasks: Sequence[Task],
    config: RiptConfig,
    optimizer: OptimizerConfig,
    demonstrations: Demonstrations | None,
) -> None:
    """Checks that all parts of the loop are given and fit together.

    Raises:
        InputError: they do not.
    """
    config.check_optimizer(optimizer)
    if not tasks:
        raise InputError("tasks: expected at least one task to train on, got none")
    if config.groups.states != FRESH and not config.groups.num_states:
        raise InputError(
            f"rl.groups.states is {config.groups.states!r}: give their rl.groups.first_seed and "
            "rl.groups.num_states, or use 'fresh'"
        )
    if config.demo_fraction and demonstrations is None:
        raise InputError(
            f"rl.demo_fraction is {config.demo_fraction}, but no demonstrations were given: pass "
            "demonstrations, or set it to 0"
        )
    # Otherwise the loss would tell the branches apart in another way than the acting policy.
    if config.branch_mode != policy.spec.branch_mode:
        raise InputError(
            f"rl.branch_mode is {config.branch_mode!r}, but the policy has "
            f"{policy.spec.branch_mode!r}: set one of them to the other"
        )
