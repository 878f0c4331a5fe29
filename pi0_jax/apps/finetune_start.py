"""What a fine-tuning starts from and learns from: found and checked before anything is written."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pi0_jax.apps.finetune_settings import FineTuneSettings
from pi0_jax.apps.sections import OF_CHECKPOINT, OF_DEMONSTRATIONS
from pi0_jax.apps.start_updates import Planned, check_update, supervised_update
from pi0_jax.data.branches import EMBEDDING
from pi0_jax.data.cameras import views_of
from pi0_jax.data.held_out import split
from pi0_jax.data.lerobot.check_folder import check_folder
from pi0_jax.data.lerobot.findings import OUTCOME, Finding, refuse
from pi0_jax.data.lerobot.folder import LeRobotFolder, read_lerobot
from pi0_jax.data.lerobot.recording import Recording
from pi0_jax.data.mixture import ALIKE, Mixture
from pi0_jax.data.normalize import NormStats, load_norm_stats
from pi0_jax.data.origin import origin_of
from pi0_jax.data.stats import action_space
from pi0_jax.data.tokenizer import ByteTokenizer, longest_state
from pi0_jax.errors import InputError
from pi0_jax.model.config import preset
from pi0_jax.model.pi0 import COND_EMBED
from pi0_jax.policy.folder import PolicyFolder, load_policy, open_policy
from pi0_jax.policy.spec import PolicySpec
from pi0_jax.robot import VIEWS, Robot
from pi0_jax.robots import AS_THE_FOLDER_SAYS, Defaults, RobotFile, load_robot_file
from pi0_jax.run import seeds
from pi0_jax.training.optimizer import multiplier
from pi0_jax.training.sharding import check_devices

_SPLIT = 4  # stream of the episodes that are held out


@dataclass(frozen=True)
class FineTuneStart:
    """A fine-tuning before its first step.

    Attributes:
        spec: of the policy that is trained.
        stats: with which it normalises.
        everything: all episodes, of which the statistics are.
        learnt: the episodes that are learnt from.
        held: those that are held out.
        findings: notes about the data.
    """

    spec: PolicySpec
    stats: NormStats
    everything: Mixture
    learnt: Mixture
    held: Mixture
    findings: tuple[Finding, ...]


def find_start(settings: FineTuneSettings) -> FineTuneStart:
    """Reads the robot, the folders and the description of the checkpoint, and checks that they fit.

    Raises:
        InputError: they do not; nothing was written.
    """
    settings.hardware.check_batch(settings.sft.batch_size)
    check_devices(settings.hardware)
    # The checkpoint first: it is a matter of milliseconds, and folders may take seconds.
    given = _given(settings, weights=False)
    named = settings.robot != AS_THE_FOLDER_SAYS
    file = load_robot_file(settings.robot) if named else None
    folders, findings = _folders(settings, file)
    file = file or RobotFile(folders[0].robot)
    shares = tuple(share for _, share in settings.demonstrations.shares)
    config = settings.demonstrations
    mixture = Mixture(folders, shares, config.balance_tasks, config.weights)
    mixture.worths()
    findings += _failures(mixture)
    spec = _spec(settings, given, file, mixture.recordings)
    _check_branches(settings, spec)
    stats = _stats(settings, given, spec, mixture)
    policy = PolicyFolder(spec, {}, stats, given.path if given else None)
    for prompt in sorted({prompt for one in mixture.recordings for prompt in one.prompts}):
        policy.transforms.check_prompt(prompt)
    rng = seeds.rng(settings.seed, _SPLIT)
    learnt, held = split(mixture, settings.held_out.share, rng)
    # The only success of all may be among those that are held out.
    learnt.worths()
    check_update(_update(settings, spec), spec, settings.hardware)
    return FineTuneStart(spec, stats, mixture, learnt, held, findings)


def _update(settings: FineTuneSettings, spec: PolicySpec) -> Planned:
    """What one update of the fine-tuning computes."""
    sft, mode = settings.sft, spec.branch_mode
    plain = supervised_update("sft", sft, spec)
    if not has_outcomes(settings):
        return plain
    loss = partial(settings.cfg.loss, time_samples=sft.time_samples, branch_mode=mode)
    return plain._replace(loss=loss)


def start_policy(settings: FineTuneSettings, start: FineTuneStart) -> PolicyFolder | None:
    """The policy with its weights as training begins with them; None for random ones."""
    given = _given(settings, weights=True)
    return given and dataclasses.replace(given, spec=start.spec, stats=start.stats)


def _given(settings: FineTuneSettings, *, weights: bool) -> PolicyFolder | None:
    """The checkpoint that the config names."""
    if not settings.init.checkpoint:
        return None
    path = Path(settings.init.checkpoint).expanduser()
    if not path.is_dir():
        raise InputError(
            f"config.init.checkpoint: expected a policy folder, found none at {path.absolute()}; "
            "`python -m convert.torch_to_flax` or `jax_to_flax` make one of a published checkpoint"
        )
    policy = (load_policy if weights else open_policy)(path)
    return dataclasses.replace(policy, reference=None)


def _folders(
    settings: FineTuneSettings, file: RobotFile | None
) -> tuple[tuple[LeRobotFolder, ...], tuple[Finding, ...]]:
    """The folders, looked at; and notes about them."""
    config = settings.demonstrations
    robot, defaults = (file.robot, file.fine_tuning) if file else (None, Defaults())
    if robot and config.cameras and len(config.cameras) != len(robot.cameras):
        raise InputError(
            f"config.demonstrations.cameras names {len(config.cameras)}, and robot {robot.name!r} "
            f"has {len(robot.cameras)}: {', '.join(robot.cameras)}"
        )
    folders, notes = [], []
    for name, _ in config.shares:
        path = Path(name).expanduser()
        # Of several folders without a named robot, the first says which it is, and in what order
        # its cameras are.
        expected = robot or (folders[0].robot if folders else None)
        folder = read_lerobot(path, config.cameras or (expected.cameras if expected else None))
        recordings = tuple(_instructed(one, defaults.prompt) for one in folder.recordings)
        folder = dataclasses.replace(folder, recordings=recordings)
        findings = check_folder(folder, expected)
        refuse(findings, path, config.allow)
        folders.append(config.kept(folder))
        notes += findings
    return tuple(folders), tuple(notes)


def _instructed(recording: Recording, prompt: str) -> Recording:
    """The episode with the robot's instruction where it has none."""
    prompts = tuple(own if own.strip() else prompt for own in recording.prompts)
    return dataclasses.replace(recording, prompts=prompts)


def _spec(
    settings: FineTuneSettings,
    given: PolicyFolder | None,
    file: RobotFile,
    recordings: Sequence[Recording],
) -> PolicySpec:
    """The policy that will be trained."""
    changes: dict[str, Any] = {}
    if settings.execute_steps:
        changes["execute_steps"] = settings.execute_steps
    if given is None:
        return dataclasses.replace(_fresh(settings, file, recordings), **changes)
    # A policy of this robot has its own action space, and the robot's file has none to say.
    if settings.init.statistics == OF_CHECKPOINT or given.spec.robot.name == file.robot.name:
        check_same(given.spec.robot, file.robot)
        return dataclasses.replace(given.spec, **changes)
    return dataclasses.replace(
        given.spec,
        robot=_with_masks(file.robot),
        action_space=action_space(file.fine_tuning),
        asset_id=file.robot.name,
        **changes,
    )


def _fresh(
    settings: FineTuneSettings, file: RobotFile, recordings: Sequence[Recording]
) -> PolicySpec:
    """A policy that is trained from scratch, with room for every instruction and the robot."""
    model = preset(settings.model)
    state = longest_state(len(file.robot.state)) if model.pi05 else None
    said = {prompt for one in recordings for prompt in one.prompts}
    longest = max(len(ByteTokenizer().encode(text, state)) for text in said)
    robot = file.robot
    # The tiny presets are made for one arm.
    width = max(model.action_dim, len(robot.actions), len(robot.state))
    longest = max(model.prompt_length, longest)
    return PolicySpec(
        model=dataclasses.replace(model, prompt_length=longest, action_dim=width),
        robot=file.robot,
        execute_steps=settings.execute_steps or model.action_horizon,
        tokenizer="bytes",
        action_space=action_space(file.fine_tuning),
        quantile=model.pi05,
        state_in_prompt=model.pi05,
    )


def _with_masks(robot: Robot) -> Robot:
    """The robot with the network's cameras that it lacks, where its file says which it has."""
    views = views_of(robot)
    absent = tuple(view for view in VIEWS if view not in views)
    known = set(views) <= set(VIEWS)
    return dataclasses.replace(robot, masked_cameras=absent) if known else robot


def check_same(policy: Robot, wanted: Robot) -> None:
    """Checks that a policy was trained for the robot that a config names.

    Raises:
        InputError: something that matters differs; the message names it.
    """
    differences = {
        "name": (policy.name, wanted.name),
        "cameras": (views_of(policy), views_of(wanted)),
        "gripper": (policy.gripper, wanted.gripper),
        "control_hz": (policy.control_hz, wanted.control_hz),
    }
    for kind in ("state", "actions"):
        ours, theirs = getattr(policy, kind), getattr(wanted, kind)
        differences[f"number of {kind}"] = (len(ours), len(theirs))
        for one, other in zip(ours, theirs, strict=False):
            differences[f"{kind} {one.name}"] = (one, other)
    for what, (ours, theirs) in differences.items():
        if ours != theirs:
            raise InputError(
                f"the policy was trained with another robot than config.robot names: {what} is "
                f"{ours} in the policy folder and {theirs} in the robot's file; what the policy "
                "was trained with wins, so name a file that agrees"
            )


def _stats(
    settings: FineTuneSettings, given: PolicyFolder | None, spec: PolicySpec, mixture: Mixture
) -> NormStats:
    """The statistics with which the policy will normalise."""
    floor, horizon = settings.demonstrations.std_floor, spec.model.action_horizon
    if settings.init.statistics == OF_CHECKPOINT:
        assert given is not None  # `FineTuneInit` sees to it
        return given.stats
    if settings.init.statistics == OF_DEMONSTRATIONS:
        return mixture.stats(spec.action_space, horizon, floor)
    path = Path(settings.init.statistics).expanduser()
    stats = load_norm_stats(path)
    if stats.origin is None:
        raise InputError(
            f"{path}: does not say which data it is of; make it with `python -m pi0_jax.data.stats`"
        )
    motions = [(one.state, one.actions) for one in mixture.recordings]
    digests = [folder.digest for folder in mixture.folders]
    wanted = origin_of(digests, motions, spec.action_space, horizon, floor)
    # The floor of the file counts: that key has no effect here.
    stats.origin.check(dataclasses.replace(wanted, std_floor=stats.origin.std_floor), path)
    return stats


def _failures(mixture: Mixture) -> tuple[Finding, ...]:
    """A note where failures are imitated as successes are."""
    failed = sum(one.success == 0 for one in mixture.recordings)
    if not failed or mixture.worth != ALIKE:
        return ()
    text = (
        f"{failed} of {len(mixture.recordings)} episodes failed and are imitated like the others; "
        "config.demonstrations.weights='success' tells them apart"
    )
    return (Finding(OUTCOME, text),)


def _check_branches(settings: FineTuneSettings, spec: PolicySpec) -> None:
    """Checks that what tells the branches apart is trained where outcomes weigh the episodes.

    Raises:
        InputError: it is frozen, so that both branches would stay the same.
    """
    by_embedding = has_outcomes(settings) and spec.branch_mode == EMBEDDING
    if by_embedding and not multiplier(COND_EMBED, settings.sft.optimizer.all_rules):
        raise InputError(
            f"config.demonstrations.weights is {settings.demonstrations.weights!r}, but "
            f"config.sft.optimizer.rules freeze {COND_EMBED}, which tells the branches apart; set "
            f"--config.sft.optimizer.rules='((\"{COND_EMBED}\",20.0),)'"
        )


def has_outcomes(settings: FineTuneSettings) -> bool:
    """Whether both branches are trained, by the outcomes of the episodes."""
    return settings.demonstrations.weights != ALIKE
