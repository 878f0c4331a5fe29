"""Train pi0: demonstrations -> supervised flow matching -> RIPT -> evaluation -> report.

python train.py --config configs/demo.py --workdir runs/demo [--resume] [--config.KEY=VALUE ...]
"""

import dataclasses
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pi0_jax.apps import cli
from pi0_jax.data.branches import EMBEDDING, branch_prompt, has_two_prompts
from pi0_jax.data.demonstrations import Demonstrations, Recorded
from pi0_jax.data.lerobot.folder import LeRobotFolder, open_lerobot
from pi0_jax.data.normalize import NormStats
from pi0_jax.data.tokenizer import ByteTokenizer
from pi0_jax.env.suite import Suite, make_suite
from pi0_jax.errors import InputError, check_choices, check_minima
from pi0_jax.io.episodes import load_episodes, save_episodes
from pi0_jax.model.config import preset
from pi0_jax.model.pi0 import Pi0
from pi0_jax.policy.folder import (
    PolicyFolder,
    PolicySpec,
    check_robot,
    init_policy,
    load_policy,
    param_count,
    save_policy,
)
from pi0_jax.report.page import write_report
from pi0_jax.rl.config import RiptConfig, replaced, ript_config
from pi0_jax.rl.init_states import FRESH, VALIDATION, GroupConfig
from pi0_jax.rl.stored_loop import run_stored_ript
from pi0_jax.rollout.evaluate import EvalConfig, evaluate_policy
from pi0_jax.rollout.record_videos import record_videos
from pi0_jax.run.folder import BASE, RIPT, RunFolder, success_text
from pi0_jax.run.session import Session, method_number, open_session
from pi0_jax.run.success import table
from pi0_jax.training import checkpoint
from pi0_jax.training.fit import create_training, final_params, fit
from pi0_jax.training.hardware import Hardware, cache_programs
from pi0_jax.training.memory import Job, abstract_batch, check
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.sharding import gather, make_mesh
from pi0_jax.training.step import SampledLoss
from pi0_jax.training.supervised import SupervisedConfig, augmented, flow_matching_loss
from pi0_jax.types import Batch
from pi0_jax.versions import versions

Config = Any
"""An ml_collections ConfigDict, whose values have no static types."""

# Whose statistics a given checkpoint normalises with: its own, or those of new data.
OF_CHECKPOINT, OF_DEMONSTRATIONS = "checkpoint", "demonstrations"


def main() -> None:
    """Runs every stage that the run folder does not hold yet."""
    config = cli.CONFIG.value
    cache_programs(config.compilation_cache)
    suite = make_suite(config.suite, config.task.to_dict())
    methods = {name: method_settings(config, name, suite) for name in (*config.baselines, RIPT)}
    trained = methods if config.rl.iterations else {}
    evaluation = EvalConfig(**config.eval)
    recorded = recorded_demonstrations(config, suite)
    check_start(config, suite, [ript for ript, _ in methods.values()])
    check_layout(
        config, [config.sft.batch_size, *(ript.batch_size for ript, _ in methods.values())]
    )
    # A resumed run must find the same demonstrations.
    data = {"demonstrations_digest": recorded.digest} if recorded else {}
    with open_session(cli.workdir(), cli.RESUME.value, config, suite, **data) as session:
        demos = recorded or demonstrations(session, config.demonstrations)
        session.run.message(f"demonstrations: {demos}")
        final = base = base_policy(session, config, demos)
        evaluate_policy(session, evaluation, "sft", BASE, base, (1.0,))
        for name, settings in trained.items():
            final = train_method(session, config, name, settings, base, demos)
            evaluate_policy(session, evaluation, "rl", name, final, scales(settings[0], evaluation))
        record_videos(session, (BASE, RIPT) if trained else (BASE,), 1.0, evaluation.videos)
    run = session.run
    export(run, final)
    run.message(f"results in {run.path}\n\n{table(run.rows)}\n")
    run.message(f"policy {run.path / 'policy'}, report {write_report(run.path)}")


def method_settings(config: Config, name: str, suite: Suite) -> tuple[RiptConfig, OptimizerConfig]:
    """config.rl with the keys replaced that make this baseline."""
    overrides = {} if name == RIPT else config.baselines[name].to_dict()
    values = replaced(config.rl.to_dict(), overrides)
    optimizer = OptimizerConfig(**values.pop("optimizer"))
    ript = ript_config(values)
    ript.check_optimizer(optimizer)
    groups = with_states(ript.groups, config, len(suite.tasks))
    return dataclasses.replace(ript, groups=groups), optimizer


def with_states(groups: GroupConfig, config: Config, tasks: int) -> GroupConfig:
    """The initial states that `groups.states` stands for, by seed and number.

    Raises:
        InputError: demonstrations that have no simulator state to start from.
    """
    if groups.states == FRESH:
        return groups
    if groups.states == VALIDATION:
        first, number = config.eval.first_seed, config.eval.episodes
    else:
        first, number = config.demonstrations.first_seed, config.demonstrations.episodes // tasks
    if not number:
        raise InputError(
            "config.rl.groups.states is 'demonstrations', but there are no scripted ones: a "
            "LeRobot folder holds no simulator states; use 'fresh'"
        )
    return dataclasses.replace(groups, first_seed=first, num_states=number)


def scales(ript: RiptConfig, evaluation: EvalConfig) -> list[float]:
    """Guidance scales at which a method is evaluated: 1 alone where only one branch is trained."""
    two = ript.groups.groups_per_iteration and ript.chosen.has_guidance
    return sorted({1.0, *evaluation.guidance}) if two else [1.0]


def sft_settings(config: Config) -> tuple[SupervisedConfig, OptimizerConfig]:
    """config.sft, checked."""
    values = config.sft.to_dict()
    optimizer = OptimizerConfig(**values.pop("optimizer"))
    return SupervisedConfig(**values), optimizer


def fresh_spec(config: Config, suite: Suite) -> PolicySpec:
    """A policy for this suite that is trained from scratch, with room for all it may be told."""
    model = preset(config.model)
    methods = [method_settings(config, name, suite)[0] for name in (*config.baselines, RIPT)]
    conditions = [ript.branch_mode for ript in methods]
    said = [branch_prompt(c, task.instruction, True) for c in conditions for task in suite.tasks]
    longest = max(len(ByteTokenizer().encode(text)) for text in said)
    return PolicySpec(
        model=dataclasses.replace(model, prompt_length=max(model.prompt_length, longest)),
        robot=suite.robot,
        execute_steps=config.execute_steps or model.action_horizon,
        tokenizer="bytes",
    )


def check_start(config: Config, suite: Suite, methods: Sequence[RiptConfig]) -> None:
    """What training starts from exists and fits the task.

    Raises:
        InputError: a checkpoint that does not, an unknown preset or a value out of range; before
            anything is written.
    """
    sft_settings(config)
    check_minima("config", config, {"seed": 0})
    minima = {"episodes": 0, "first_seed": 0, "std_floor": 0}
    check_minima("demonstrations", config.demonstrations, minima)
    check_choices("init", config.init, {"statistics": (OF_CHECKPOINT, OF_DEMONSTRATIONS)})
    check_sources(config)
    if config.demonstrations.episodes:
        suite.check_demonstrator()
    if config.init.checkpoint:
        policy = given_policy(config, suite)
        spec = policy.spec
        check_robot(spec.robot, suite.robot)
        check_conditions(policy, suite, methods)
    else:
        spec = fresh_spec(config, suite)
    EvalConfig(**config.eval).executed(spec)


def check_sources(config: Config) -> None:
    """Demonstrations come from one place, and from somewhere where they are needed.

    Raises:
        InputError: they do not.
    """
    made, folder = config.demonstrations.episodes, config.demonstrations.lerobot
    if made and folder:
        raise InputError(
            f"config.demonstrations.lerobot is {folder!r} and config.demonstrations.episodes is "
            f"{made}: demonstrations come from one place; set the other to '' or 0"
        )
    if made or folder:
        return
    if not config.init.checkpoint or config.sft.steps or config.rl.demo_fraction:
        raise InputError(
            "there are no demonstrations: set config.demonstrations.episodes or .lerobot, or "
            "config.init.checkpoint, with config.sft.steps and config.rl.demo_fraction at 0"
        )
    if config.init.statistics == OF_DEMONSTRATIONS:
        raise InputError("config.init.statistics is 'demonstrations', and there are none")


def check_conditions(policy: PolicyFolder, suite: Suite, methods: Sequence[RiptConfig]) -> None:
    """A given checkpoint can be told what RL will tell it.

    Raises:
        InputError: it was trained with another branch_mode, or a prompt does not fit; before
            anything is written.
    """
    for ript in methods:
        transforms = conditioned(policy, ript.branch_mode).transforms
        for positive in (False, True) if has_two_prompts(ript.branch_mode) else ():
            transforms.prompts([task.instruction for task in suite.tasks], positive)


def conditioned(policy: PolicyFolder, branch_mode: str) -> PolicyFolder:
    """The policy with its branches told apart by `branch_mode`.

    Raises:
        InputError: it was trained with another one than the embedding, which is nobody's choice.
    """
    before = policy.spec.branch_mode
    if before not in (EMBEDDING, branch_mode):
        raise InputError(
            f"config.rl.branch_mode is {branch_mode!r}, but the checkpoint was trained with "
            f"{before!r}: set it to that"
        )
    spec = dataclasses.replace(policy.spec, branch_mode=branch_mode)
    return dataclasses.replace(policy, spec=spec)


def check_layout(config: Config, batch_sizes: list[int]) -> None:
    """The devices at hand can take every batch.

    Raises:
        InputError: they cannot; before anything is written.
    """
    hardware = Hardware(**config.hardware)
    for size in batch_sizes:
        hardware.check_batch(size)
    if hardware.devices > 1:
        make_mesh(hardware)


def recorded_demonstrations(config: Config, suite: Suite) -> LeRobotFolder | None:
    """Those of the suite's tasks in a LeRobot folder; None where the config names no folder.

    Raises:
        InputError: as `open_lerobot`, or another robot; before anything is written.
    """
    if not config.demonstrations.lerobot:
        return None
    instructions = [task.instruction for task in suite.tasks]
    path = Path(config.demonstrations.lerobot)
    folder = open_lerobot(path, suite.robot.cameras, instructions)
    folder.check_robot(suite.robot)
    return folder


def demonstrations(session: Session, config: Config) -> Recorded:
    """Scripted episodes, failures kept; made once and stored."""
    path, clock = session.run.episodes("demonstrations"), time.monotonic()
    if not path.exists():
        first = session.first_state(config.first_seed)
        seeds = range(first, first + config.episodes)
        with session.run.progress("demonstrations", len(seeds)) as progress:
            episodes = session.pool.map(
                session.suite.demonstrations(seeds),
                lambda done: progress.update(len(done), success_text(done)),
            )
        save_episodes(path, episodes)
        session.log_speed("demonstrations", episodes, time.monotonic() - clock)
    return Recorded(load_episodes(path))


def base_policy(session: Session, config: Config, demos: Demonstrations) -> PolicyFolder:
    """The policy before RL: a given checkpoint or a fresh one, after supervised training."""
    path = session.run.path / BASE
    if not path.exists():
        start = initial_policy(session, config, demos)
        session.run.message(f"policy: {param_count(start.params):,} parameters")
        hardware, (sft, optimizer) = Hardware(**config.hardware), sft_settings(config)
        if sft.steps:
            start = supervise(session, BASE, start, demos, sft, optimizer, hardware)
        save_policy(path, start, {"made_by": "train.py", "versions": versions()})
    return load_policy(path)


def initial_policy(session: Session, config: Config, demos: Demonstrations) -> PolicyFolder:
    """The checkpoint that the config names, or random parameters; with the right statistics."""
    if config.init.checkpoint:
        start = given_policy(config, session.suite)
        if config.init.statistics == OF_CHECKPOINT:
            return start
        return dataclasses.replace(start, stats=stats_of(demos, start.spec, config))
    spec = fresh_spec(config, session.suite)
    return init_policy(spec, stats_of(demos, spec, config), config.seed)


def given_policy(config: Config, suite: Suite) -> PolicyFolder:
    """The checkpoint that the config names, as the config wants it used."""
    policy = load_policy(Path(config.init.checkpoint))
    changes: dict[str, Any] = {}
    if config.execute_steps:
        changes["execute_steps"] = config.execute_steps
    if config.init.statistics == OF_DEMONSTRATIONS:
        # It may be one of another robot, with cameras that this one lacks.
        masked = policy.spec.robot.masked_cameras
        changes["robot"] = dataclasses.replace(suite.robot, masked_cameras=masked)
    return dataclasses.replace(policy, spec=dataclasses.replace(policy.spec, **changes))


def stats_of(demos: Demonstrations, spec: PolicySpec, config: Config) -> NormStats:
    """Statistics of the demonstrations for a policy of this kind."""
    floor = config.demonstrations.std_floor
    return demos.stats(spec.delta_dims, spec.model.action_horizon, floor)


def train_method(
    session: Session,
    config: Config,
    name: str,
    settings: tuple[RiptConfig, OptimizerConfig],
    base: PolicyFolder,
    demos: Demonstrations,
) -> PolicyFolder:
    """One way to spend the same number of optimizer steps on the base policy."""
    (ript, optimizer), hardware = settings, Hardware(**config.hardware)
    if ript.groups.groups_per_iteration:
        base = conditioned(base, ript.branch_mode)

        def loss(model: Pi0) -> SampledLoss:
            return ript.chosen.loss(model, ript.time_samples, ript.branch_mode)

        budget(session, name, base, loss, optimizer, ript.batch_size, hardware)
        done = config.sft.steps
        evaluation = EvalConfig(**config.eval)
        return run_stored_ript(
            session, name, base, demos, ript, optimizer, done, hardware, evaluation
        )
    # Without rollouts the steps go to the demonstrations, at the rate and schedule of RL.
    sft, sft_optimizer = sft_settings(config)
    sft = dataclasses.replace(sft, steps=ript.iterations * ript.updates_per_iteration)
    optimizer = dataclasses.replace(optimizer, rules=sft_optimizer.rules)
    return supervise(session, name, base, demos, sft, optimizer, hardware)


def supervise(
    session: Session,
    method: str,
    start: PolicyFolder,
    demos: Demonstrations,
    config: SupervisedConfig,
    optimizer: OptimizerConfig,
    hardware: Hardware,
) -> PolicyFolder:
    """Flow matching on the demonstrations' windows; goes on at the newest checkpoint."""
    run, folder = session.run, session.run.checkpoints(method)
    model = start.spec.model
    windows = demos.windows(start.transforms, model.action_horizon)

    def loss(model: Pi0) -> SampledLoss:
        plain = flow_matching_loss(model, config.time_samples)
        return augmented(plain, start.spec.robot.cameras) if config.augment else plain

    budget(session, method, start, loss, optimizer, config.batch_size, hardware)
    network = hardware.network(model)
    state, update = create_training(start.params, loss(network), optimizer, config.steps, hardware)
    checkpoint.check_room(folder, state)
    if checkpoint.latest(folder):
        state = checkpoint.restore(folder, state)
    run.rewind("sft", method, int(state.step))

    def batch_of(step: int) -> Batch:
        rng = session.rng(1, step, method_number(method))
        indices = rng.integers(len(windows), size=config.batch_size)
        return windows.take(indices)

    with run.progress(f"{method}: supervised", config.steps, done=int(state.step)) as progress:

        def log(step: int, metrics: dict[str, float]) -> None:
            run.log(step, "sft", method, **metrics)
            progress.update(step, f"loss {metrics['loss']:.4f}")

        key = session.noise_key(method)
        while int(state.step) < config.steps:
            until = min(int(state.step) + config.save_every, config.steps)
            state = fit(state, update, batch_of, until, key, log_every=20, log=log)
            checkpoint.save(folder, until, state, {"phase": "sft"})
    return dataclasses.replace(start, params=gather(final_params(state)))


def budget(
    session: Session,
    method: str,
    policy: PolicyFolder,
    loss: Callable[[Pi0], SampledLoss],
    optimizer: OptimizerConfig,
    batch_size: int,
    hardware: Hardware,
) -> None:
    """Says what an update will need of a device, or refuses it, before anything is allocated."""
    model = policy.spec.model
    batch = abstract_batch(model, len(policy.spec.robot.cameras), batch_size)
    if has_two_prompts(policy.spec.branch_mode):
        said = batch.obs.prompt, batch.obs.prompt_mask
        batch = dataclasses.replace(batch, uncond_prompt=said[0], uncond_prompt_mask=said[1])

    def with_remat(remat: str) -> SampledLoss:
        """The loss, where the backward pass computes more or less again."""
        return loss(dataclasses.replace(hardware, remat=remat).network(model))

    job = Job(policy.params, with_remat, optimizer, batch, hardware)
    session.run.message(f"{method}: {check(job)}")


def export(run: RunFolder, final: PolicyFolder) -> None:
    """Writes the improved policy, in place of one that an interrupted run left."""
    path = run.path / "policy"
    shutil.rmtree(path, ignore_errors=True)
    save_policy(path, final, {"made_by": "train.py", "versions": versions()})


if __name__ == "__main__":
    cli.launch(main)
