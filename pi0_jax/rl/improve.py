"""The RIPT loop: roll out, weigh, update, remember; one checkpoint an iteration."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import jax
import numpy as np

from pi0_jax.data.windows import concatenate, cut_windows
from pi0_jax.episode import Episode, Group, load_episodes, save_episodes
from pi0_jax.model.pi0 import Pi0
from pi0_jax.policy import Policy
from pi0_jax.policy_folder import PolicyFolder
from pi0_jax.rl.objective import cfg_flow_matching_loss
from pi0_jax.rl.ript import Harvest, RiptConfig, draw_batch, harvest, weighted_windows
from pi0_jax.rl.rollout import group_by_state
from pi0_jax.rl.sampler import Sampler
from pi0_jax.run_folder import success_text
from pi0_jax.session import Session
from pi0_jax.training import checkpoint
from pi0_jax.training.fit import ONE_DEVICE, Update, finished, fit, prepare
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.sharding import gather
from pi0_jax.training.step import TrainState
from pi0_jax.types import Batch

_BATCHES, _NOISE = 2, 3  # streams of random numbers


@dataclass(frozen=True)
class Arm:
    """One way to improve the base policy; fixed over its iterations.

    Attributes:
        name: of the arm, such as "ript" or "filtered_bc".
        config: what a step collects and trains on.
        base: the policy it starts from.
        policy: acts in the rollouts, with the newest parameters.
        demos: windows of demonstrations, of weight 0; None where batches hold none.
        update: the jitted update.
        first_step: optimizer steps before RL, to number checkpoints.
    """

    name: str
    config: RiptConfig
    base: PolicyFolder
    policy: Policy
    demos: Batch | None
    update: Update
    first_step: int


@dataclass(frozen=True)
class Progressed:
    """What one iteration hands to the next.

    Attributes:
        iteration: iterations done.
        state: of training.
        sampler: of initial states.
        windows: accepted windows of each iteration that accepted any.
    """

    iteration: int
    state: TrainState
    sampler: Sampler
    windows: tuple[Batch, ...]


def improve(
    session: Session,
    name: str,
    base: PolicyFolder,
    demos: Sequence[Episode],
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
    """
    model, transforms = Pi0(base.spec.model, hardware.remat), base.transforms
    loss = cfg_flow_matching_loss(model, config.alpha, config.time_samples)
    steps = config.iterations * config.updates_per_step
    state, update = prepare(base.params, loss, optimizer, steps, hardware)
    windows = None
    if config.demo_fraction:
        horizon = base.spec.model.action_horizon
        windows = cut_windows(demos, [0.0] * len(demos), transforms, horizon)
    policy = Policy.from_folder(base, config.guidance)
    arm = Arm(name, config, base, policy, windows, update, first_step)
    done = _resumed(
        session, arm, Progressed(0, state, Sampler(session.first_state(config.first_seed)), ())
    )
    while done.iteration < config.iterations:
        done = _iterate(session, arm, done)
    return replace(base, params=gather(finished(done.state)))


def _iterate(session: Session, arm: Arm, done: Progressed) -> Progressed:
    """One RIPT step."""
    began = time.monotonic()
    harvested, sampler = _roll_out(session, arm, done)
    rolled_out = time.monotonic()
    fresh = _windows(arm, harvested.groups)
    windows = (*done.windows, fresh) if fresh is not None else done.windows
    metrics: dict[str, float] = {}
    state = done.state
    if windows:
        rollouts = concatenate(windows)
        state = fit(
            state,
            arm.update,
            lambda step: draw_batch(rollouts, arm.demos, arm.config, session.rng(_BATCHES, step)),
            int(state.step) + arm.config.updates_per_step,
            jax.random.key(session.seed + _NOISE),
            log_every=arm.config.updates_per_step,
            log=lambda step, values: metrics.update(values),
        )
    else:
        session.run.say(f"{arm.name}: no group taught anything yet; no update")
    now = Progressed(done.iteration + 1, state, sampler, windows)
    seconds = {
        "seconds_rollout": rolled_out - began,
        "seconds_train": time.monotonic() - rolled_out,
    }
    _log(session, arm, now, harvested, metrics | seconds)
    _remember(session, arm, now, harvested)
    return now


def _roll_out(session: Session, arm: Arm, done: Progressed) -> tuple[Harvest, Sampler]:
    config = arm.config
    label = f"{arm.name} {done.iteration + 1}/{config.iterations}: rollouts"
    with session.run.progress(label, config.max_groups * config.group_size) as progress:
        return harvest(
            arm.policy.with_params(done.state.params),
            session.pool,
            session.suite.tasks,
            done.sampler,
            config,
            arm.base.spec.execute_steps,
            arm.first_step + int(done.state.step),
            lambda episodes: progress.update(len(episodes), success_text(episodes)),
        )


def _windows(arm: Arm, groups: Sequence[Group]) -> Batch | None:
    horizon = arm.base.spec.model.action_horizon
    return weighted_windows(groups, arm.config, arm.base.transforms, horizon)


def _log(
    session: Session, arm: Arm, now: Progressed, harvested: Harvest, metrics: dict[str, float]
) -> None:
    weights = now.windows[-1].weight if now.windows and harvested.groups else np.zeros(0)
    positive = weights[np.asarray(weights) > 0]
    session.run.log(
        arm.first_step + int(now.state.step),
        "rl",
        arm.name,
        iteration=now.iteration,
        rollout_success=harvested.success_rate,
        rollouts=len(harvested.episodes),
        errors=sum(episode.error is not None for episode in harvested.episodes),
        groups_tried=harvested.tried,
        groups_accepted=len(harvested.groups),
        windows=len(weights),
        positive_share=len(positive) / max(1, len(weights)),
        positive_weight_mean=float(np.mean(positive)) if len(positive) else 0.0,
        env_steps_per_s=sum(map(len, harvested.episodes)) / metrics["seconds_rollout"],
        **metrics,
    )


def _remember(session: Session, arm: Arm, now: Progressed, harvested: Harvest) -> None:
    """Episodes first: a checkpoint never promises episodes that are not there."""
    path = session.run.episodes(f"{arm.name}/{now.iteration:03d}")
    save_episodes(path, harvested.episodes)
    host = {"phase": "rl", "iteration": now.iteration, "sampler": asdict(now.sampler)}
    step = arm.first_step + int(now.state.step)
    checkpoint.save(session.run.checkpoints(arm.name), step, now.state, host)


def _resumed(session: Session, arm: Arm, fresh: Progressed) -> Progressed:
    """Where the newest checkpoint stands, with the windows of all accepted episodes."""
    folder = session.run.checkpoints(arm.name)
    host = checkpoint.latest(folder)
    if host is None or host["phase"] != "rl":
        return fresh
    windows = []
    for iteration in range(1, host["iteration"] + 1):
        episodes = load_episodes(session.run.episodes(f"{arm.name}/{iteration:03d}"))
        groups, _ = fresh.sampler.accept(group_by_state(episodes), arm.config.dynamic_sampling)
        part = _windows(arm, groups)
        windows += [part] if part is not None else []
    state = checkpoint.restore(folder, fresh.state)
    return Progressed(host["iteration"], state, Sampler(**host["sampler"]), tuple(windows))
