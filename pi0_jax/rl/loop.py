"""The RIPT loop: roll out, weigh, update, remember; one checkpoint an iteration."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import jax
import numpy as np

from pi0_jax.data.branches import has_two_prompts
from pi0_jax.data.demonstrations import Demonstrations, WindowSource
from pi0_jax.episode import Group, load_episodes, save_episodes, without_images
from pi0_jax.model.pi0 import Pi0
from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.policy.policy import Policy
from pi0_jax.rl.config import RiptConfig
from pi0_jax.rl.init_states import DEMONSTRATIONS, InitStateSchedule, informative_groups
from pi0_jax.rl.iteration import (
    CollectedGroups,
    collect_groups,
    demo_windows,
    draw_batch,
    weighted_windows,
)
from pi0_jax.rl.metrics import iteration_metrics, no_update_reason
from pi0_jax.rollout.collect import groups_of
from pi0_jax.run.folder import success_text
from pi0_jax.run.session import Session
from pi0_jax.training import checkpoint
from pi0_jax.training.fit import ONE_DEVICE, Update, final_params, fit
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.memory import abstract_batch
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.setup import set_up_training
from pi0_jax.training.sharding import gather
from pi0_jax.training.step import SampledLoss, TrainState
from pi0_jax.types import Batch

_BATCHES, _NOISE = 2, 3  # streams of random numbers
_LOOK_EVERY = 10  # updates between two looks at the metrics, which wait for the device


@dataclass(frozen=True)
class Method:
    """One way to improve the base policy; fixed over its iterations.

    Attributes:
        name: of the method, such as "ript" or "filtered_bc".
        config: what a step collects and trains on.
        base: the policy it starts from.
        policy: acts in the rollouts, with the newest parameters.
        demos: windows of demonstrations; None where batches hold none.
        update: the jitted update.
        first_step: optimizer steps before RL, to number checkpoints.
    """

    name: str
    config: RiptConfig
    base: PolicyFolder
    policy: Policy
    demos: WindowSource | None
    update: Update
    first_step: int


@dataclass(frozen=True)
class LoopState:
    """What one iteration hands to the next.

    Attributes:
        iteration: iterations done.
        state: of training.
        init_states: of initial states.
        windows: accepted windows by iteration, of those that accepted any and are remembered.
    """

    iteration: int
    state: TrainState
    init_states: InitStateSchedule
    windows: dict[int, Batch] = field(default_factory=dict)


def run_ript(
    session: Session,
    name: str,
    base: PolicyFolder,
    demos: Demonstrations,
    config: RiptConfig,
    optimizer: OptimizerConfig,
    first_step: int,
    hardware: Hardware = ONE_DEVICE,
) -> PolicyFolder:
    """Improves a policy by its own rollouts; goes on where the run folder's checkpoint stands.

    Args:
        session: of the run.
        name: of the method.
        base: where to start.
        demos: demonstrations for the unconditional branch.
        config: of RIPT.
        optimizer: of the update.
        first_step: optimizer steps before RL.
        hardware: the layout of an update.

    Raises:
        InputError: the rollouts want a moving average that the optimizer does not keep.
    """
    config.check_optimizer(optimizer)
    session.run.message(f"{name}: {config}")
    if config.advantage.warning:
        session.run.message(f"{name}: warning: {config.advantage.warning}")
    spec, steps = base.spec, config.iterations * config.updates_per_iteration

    def loss(network: Pi0) -> SampledLoss:
        """The objective's."""
        return config.chosen.loss(network, config.time_samples, spec.branch_mode)

    two = has_two_prompts(spec.branch_mode)
    batch = abstract_batch(spec.model, len(spec.cameras), config.batch_size, two_prompts=two)
    state, update, budget = set_up_training(
        base.params, spec.model, loss, optimizer, steps, batch, hardware
    )
    session.run.message(f"{name}: {budget}")
    checkpoint.check_room(session.run.checkpoints(name), state)
    method = _method(session, name, config, base, demos, update, first_step)
    done = _resumed(session, method, LoopState(0, state, _first_sampler(session, config)))
    session.run.rewind("rl", name, first_step + int(done.state.step))
    while done.iteration < config.iterations:
        done = _iterate(session, method, done)
    return replace(base, params=gather(final_params(done.state)))


def _method(
    session: Session,
    name: str,
    config: RiptConfig,
    base: PolicyFolder,
    demos: Demonstrations,
    update: Update,
    first_step: int,
) -> Method:
    windows = demo_windows(demos, config, base.transforms, base.spec.model.action_horizon)
    # Its parameters stay on the host: a rollout brings the newest, and 16 GB hold no second set.
    policy = Policy(
        Pi0(base.spec.model),
        base.params,
        base.transforms,
        config.guidance,
        rows=session.rows,
    )
    return Method(name, config, base, policy, windows, update, first_step)


def _first_sampler(session: Session, config: RiptConfig) -> InitStateSchedule:
    """Fresh states are every run's own, as demonstrations are; another finite set is named."""
    sampling = config.groups
    first = sampling.first_seed
    if not sampling.num_states or sampling.states == DEMONSTRATIONS:
        first = session.first_state(first)
    return InitStateSchedule(first, session.seed)


def _iterate(session: Session, method: Method, done: LoopState) -> LoopState:
    """One RIPT step."""
    clock = [time.monotonic()]
    collected, init_states = _roll_out(session, method, done)
    clock.append(time.monotonic())
    fresh = _windows(method, collected.groups)
    windows = _update_buffer(method.config, done, fresh)
    clock.append(time.monotonic())
    if fresh is None:
        session.run.message(
            no_update_reason(method.name, done.iteration + 1, collected, bool(windows))
        )
    state, trained = done.state, {}
    if windows:
        state, trained = _train(session, method, done.state, list(windows.values()))
    clock.append(time.monotonic())
    now = LoopState(done.iteration + 1, state, init_states, windows)
    found = iteration_metrics(method.config, now.iteration, collected, fresh, np.diff(clock))
    if collected.episodes:
        label = f"{method.name} {now.iteration}: rollouts"
        found |= session.log_speed(label, collected.episodes, clock[1] - clock[0])
    session.run.log(method.first_step + int(state.step), "rl", method.name, **found, **trained)
    _save_iteration(session, method, now, collected)
    return now


def _roll_out(
    session: Session, method: Method, done: LoopState
) -> tuple[CollectedGroups, InitStateSchedule]:
    config = method.config
    averaged = config.rollout_params == "ema"
    label = f"{method.name} {done.iteration + 1}/{config.iterations}: rollouts"
    total = config.groups.max_groups * config.groups.group_size
    with session.run.progress(label, total) as progress:
        return collect_groups(
            method.policy.with_params(done.state.averaged() if averaged else done.state.params),
            session.pool,
            session.suite.tasks,
            done.init_states,
            config,
            method.base.spec.execute_steps,
            method.first_step + int(done.state.step),
            lambda episodes: progress.update(len(episodes), success_text(episodes)),
        )


def _train(
    session: Session, method: Method, state: TrainState, rollouts: Sequence[Batch]
) -> tuple[TrainState, dict[str, float]]:
    """The updates of one step, and the mean of what every tenth of them measured."""
    config, seen = method.config, []
    state = fit(
        state,
        method.update,
        lambda step: draw_batch(rollouts, method.demos, config, session.rng(_BATCHES, step)),
        int(state.step) + config.updates_per_iteration,
        jax.random.key(session.seed + _NOISE),
        log_every=_LOOK_EVERY,
        log=lambda step, values: seen.append(values),
    )
    return state, {name: float(np.mean([one[name] for one in seen])) for name in seen[-1]}


def _windows(method: Method, groups: Sequence[Group]) -> Batch | None:
    horizon = method.base.spec.model.action_horizon
    return weighted_windows(groups, method.config, method.base.transforms, horizon)


def _update_buffer(config: RiptConfig, done: LoopState, fresh: Batch | None) -> dict[int, Batch]:
    """The buffer with what an iteration brought, without what is too old."""
    now = done.iteration + 1
    windows = done.windows if fresh is None else {**done.windows, now: fresh}
    oldest = now - config.buffer_iterations + 1 if config.buffer_iterations else 1
    return {iteration: part for iteration, part in windows.items() if iteration >= oldest}


def _save_iteration(
    session: Session, method: Method, now: LoopState, collected: CollectedGroups
) -> None:
    """Episodes first: a checkpoint never promises episodes that are not there."""
    path, episodes = _episodes_file(session, method, now.iteration), collected.episodes
    if method.config.buffer_iterations == 1:
        # No later step trains on them, and pictures of LIBERO are gigabytes a step.
        episodes = tuple(without_images(episode) for episode in episodes)
    save_episodes(path, episodes)
    host = {"phase": "rl", "iteration": now.iteration, "init_states": asdict(now.init_states)}
    step = method.first_step + int(now.state.step)
    checkpoint.save(session.run.checkpoints(method.name), step, now.state, host)


def _episodes_file(session: Session, method: Method, iteration: int) -> Path:
    return session.run.episodes(f"{method.name}/{iteration:03d}")


def _resumed(session: Session, method: Method, fresh: LoopState) -> LoopState:
    """Where the newest checkpoint stands, with the windows that are remembered there."""
    folder = session.run.checkpoints(method.name)
    host = checkpoint.latest(folder)
    if host is None or host["phase"] != "rl":
        return fresh
    done, kept = fresh, method.config.buffer_iterations
    # The oldest that the next step will still train on.
    first = max(1, host["iteration"] - kept + 2) if kept else 1
    for iteration in range(first, host["iteration"] + 1):
        episodes = load_episodes(_episodes_file(session, method, iteration))
        groups = groups_of(episodes, method.config.groups.group_size)
        part = _windows(method, informative_groups(groups, method.config.groups.dynamic_sampling))
        before = replace(done, iteration=iteration - 1)
        done = replace(done, windows=_update_buffer(method.config, before, part))
    state = checkpoint.restore(folder, fresh.state)
    init_states = InitStateSchedule(**host["init_states"])
    return LoopState(host["iteration"], state, init_states, done.windows)
