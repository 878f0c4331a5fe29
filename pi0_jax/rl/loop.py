"""The RIPT loop: roll out, weigh, update, remember; one checkpoint an iteration."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import jax
import numpy as np

from pi0_jax.data.demonstrations import Demonstrations, WindowSource
from pi0_jax.episode import Group, load_episodes, save_episodes, without_images
from pi0_jax.model.pi0 import Pi0
from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.policy.policy import Policy
from pi0_jax.rl.config import RiptConfig
from pi0_jax.rl.init_states import DEMONSTRATIONS, Sampler, teaching
from pi0_jax.rl.iteration import Harvest, demo_windows, draw_batch, harvest, weighted_windows
from pi0_jax.rl.metrics import iteration_metrics, nothing_taught
from pi0_jax.rollout.collect import groups_of
from pi0_jax.run.folder import success_text
from pi0_jax.run.session import Session
from pi0_jax.training import checkpoint
from pi0_jax.training.fit import ONE_DEVICE, Update, finished, fit, prepare
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.sharding import gather
from pi0_jax.training.step import TrainState
from pi0_jax.types import Batch

_BATCHES, _NOISE = 2, 3  # streams of random numbers
_LOOK_EVERY = 10  # updates between two looks at the metrics, which wait for the device


@dataclass(frozen=True)
class Arm:
    """One way to improve the base policy; fixed over its iterations.

    Attributes:
        name: of the arm, such as "ript" or "filtered_bc".
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
class Progressed:
    """What one iteration hands to the next.

    Attributes:
        iteration: iterations done.
        state: of training.
        sampler: of initial states.
        windows: accepted windows by iteration, of those that accepted any and are remembered.
    """

    iteration: int
    state: TrainState
    sampler: Sampler
    windows: dict[int, Batch] = field(default_factory=dict)


def improve(
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
        name: of the arm.
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
    session.run.say(f"{name}: {config}")
    if config.advantage.warning:
        session.run.say(f"{name}: warning: {config.advantage.warning}")
    network = hardware.network(base.spec.model)
    loss = config.chosen.loss(network, config.time_samples, base.spec.condition)
    steps = config.iterations * config.updates_per_step
    state, update = prepare(base.params, loss, optimizer, steps, hardware)
    checkpoint.check_room(session.run.checkpoints(name), state)
    arm = _arm(session, name, config, base, demos, update, first_step)
    done = _resumed(session, arm, Progressed(0, state, _first_sampler(session, config)))
    session.run.rewind("rl", name, first_step + int(done.state.step))
    while done.iteration < config.iterations:
        done = _iterate(session, arm, done)
    return replace(base, params=gather(finished(done.state)))


def _arm(
    session: Session,
    name: str,
    config: RiptConfig,
    base: PolicyFolder,
    demos: Demonstrations,
    update: Update,
    first_step: int,
) -> Arm:
    windows = demo_windows(demos, config, base.transforms, base.spec.model.action_horizon)
    # Its parameters stay on the host: a rollout brings the newest, and 16 GB hold no second set.
    policy = Policy(
        Pi0(base.spec.model),
        base.params,
        base.transforms,
        config.guidance,
        rows=session.rows,
    )
    return Arm(name, config, base, policy, windows, update, first_step)


def _first_sampler(session: Session, config: RiptConfig) -> Sampler:
    """Fresh states are every run's own, as demonstrations are; another finite set is named."""
    sampling = config.sampling
    first = sampling.first_seed
    if not sampling.num_states or sampling.states == DEMONSTRATIONS:
        first = session.first_state(first)
    return Sampler(first, session.seed)


def _iterate(session: Session, arm: Arm, done: Progressed) -> Progressed:
    """One RIPT step."""
    clock = [time.monotonic()]
    harvested, sampler = _roll_out(session, arm, done)
    clock.append(time.monotonic())
    fresh = _windows(arm, harvested.groups)
    windows = _remembered(arm.config, done, fresh)
    clock.append(time.monotonic())
    if fresh is None:
        session.run.say(nothing_taught(arm.name, done.iteration + 1, harvested, bool(windows)))
    state, trained = done.state, {}
    if windows:
        state, trained = _train(session, arm, done.state, list(windows.values()))
    clock.append(time.monotonic())
    now = Progressed(done.iteration + 1, state, sampler, windows)
    found = iteration_metrics(arm.config, now.iteration, harvested, fresh, np.diff(clock))
    if harvested.episodes:
        label = f"{arm.name} {now.iteration}: rollouts"
        found |= session.speed(label, harvested.episodes, clock[1] - clock[0])
    session.run.log(arm.first_step + int(state.step), "rl", arm.name, **found, **trained)
    _remember(session, arm, now, harvested)
    return now


def _roll_out(session: Session, arm: Arm, done: Progressed) -> tuple[Harvest, Sampler]:
    config = arm.config
    averaged = config.rollout_params == "ema"
    label = f"{arm.name} {done.iteration + 1}/{config.iterations}: rollouts"
    total = config.sampling.max_groups * config.sampling.group_size
    with session.run.progress(label, total) as progress:
        return harvest(
            arm.policy.with_params(done.state.averaged() if averaged else done.state.params),
            session.pool,
            session.suite.tasks,
            done.sampler,
            config,
            arm.base.spec.execute_steps,
            arm.first_step + int(done.state.step),
            lambda episodes: progress.update(len(episodes), success_text(episodes)),
        )


def _train(
    session: Session, arm: Arm, state: TrainState, rollouts: Sequence[Batch]
) -> tuple[TrainState, dict[str, float]]:
    """The updates of one step, and the mean of what every tenth of them measured."""
    config, seen = arm.config, []
    state = fit(
        state,
        arm.update,
        lambda step: draw_batch(rollouts, arm.demos, config, session.rng(_BATCHES, step)),
        int(state.step) + config.updates_per_step,
        jax.random.key(session.seed + _NOISE),
        log_every=_LOOK_EVERY,
        log=lambda step, values: seen.append(values),
    )
    return state, {name: float(np.mean([one[name] for one in seen])) for name in seen[-1]}


def _windows(arm: Arm, groups: Sequence[Group]) -> Batch | None:
    horizon = arm.base.spec.model.action_horizon
    return weighted_windows(groups, arm.config, arm.base.transforms, horizon)


def _remembered(config: RiptConfig, done: Progressed, fresh: Batch | None) -> dict[int, Batch]:
    """The buffer with what an iteration brought, without what is too old."""
    now = done.iteration + 1
    windows = done.windows if fresh is None else {**done.windows, now: fresh}
    oldest = now - config.buffer_iterations + 1 if config.buffer_iterations else 1
    return {iteration: part for iteration, part in windows.items() if iteration >= oldest}


def _remember(session: Session, arm: Arm, now: Progressed, harvested: Harvest) -> None:
    """Episodes first: a checkpoint never promises episodes that are not there."""
    path, episodes = _episodes_file(session, arm, now.iteration), harvested.episodes
    if arm.config.buffer_iterations == 1:
        # No later step trains on them, and pictures of LIBERO are gigabytes a step.
        episodes = tuple(without_images(episode) for episode in episodes)
    save_episodes(path, episodes)
    host = {"phase": "rl", "iteration": now.iteration, "sampler": asdict(now.sampler)}
    step = arm.first_step + int(now.state.step)
    checkpoint.save(session.run.checkpoints(arm.name), step, now.state, host)


def _episodes_file(session: Session, arm: Arm, iteration: int) -> Path:
    return session.run.episodes(f"{arm.name}/{iteration:03d}")


def _resumed(session: Session, arm: Arm, fresh: Progressed) -> Progressed:
    """Where the newest checkpoint stands, with the windows that are remembered there."""
    folder = session.run.checkpoints(arm.name)
    host = checkpoint.latest(folder)
    if host is None or host["phase"] != "rl":
        return fresh
    done, kept = fresh, arm.config.buffer_iterations
    # The oldest that the next step will still train on.
    first = max(1, host["iteration"] - kept + 2) if kept else 1
    for iteration in range(first, host["iteration"] + 1):
        episodes = load_episodes(_episodes_file(session, arm, iteration))
        groups = groups_of(episodes, arm.config.sampling.group_size)
        part = _windows(arm, teaching(groups, arm.config.sampling.dynamic_sampling))
        before = replace(done, iteration=iteration - 1)
        done = replace(done, windows=_remembered(arm.config, before, part))
    state = checkpoint.restore(folder, fresh.state)
    sampler = Sampler(**host["sampler"])
    return Progressed(host["iteration"], state, sampler, done.windows)
