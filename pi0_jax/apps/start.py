"""What training starts from: found and checked before anything is written."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pi0_jax.apps.sections import OF_DEMONSTRATIONS, RiptSettings
from pi0_jax.apps.settings import TrainSettings
from pi0_jax.data.branches import EMBEDDING, branch_prompt, has_two_prompts
from pi0_jax.data.lerobot.check_folder import check_folder
from pi0_jax.data.lerobot.findings import refuse
from pi0_jax.data.lerobot.folder import LeRobotFolder, read_lerobot
from pi0_jax.data.tokenizer import ByteTokenizer, longest_state
from pi0_jax.env.suite import Suite
from pi0_jax.errors import InputError
from pi0_jax.io.atomic import write_text
from pi0_jax.io.digests import DIGESTS
from pi0_jax.json_file import read_object
from pi0_jax.model.config import preset
from pi0_jax.plain_file import read_bytes
from pi0_jax.policy.folder import PolicyFolder, load_policy, open_policy
from pi0_jax.policy.robot_fit import check_robot
from pi0_jax.policy.spec import PolicySpec
from pi0_jax.training.sharding import check_devices


def check_start(
    settings: TrainSettings, suite: Suite, methods: Mapping[str, RiptSettings]
) -> PolicySpec:
    """Checks that the start of training exists and fits the task, and that devices fit the batches.

    Of a given checkpoint no weights are read.

    Returns:
        What will be trained, but for the branch mode.

    Raises:
        InputError: a check fails; nothing is written before that.
    """
    # Checks of the settings alone first, then those that open files.
    check_sources(settings)
    if settings.demonstrations.episodes:
        suite.check_demonstrator()
    if settings.init.checkpoint:
        # Shapes and statistics only: the weights may be 13 GB, and are read once, in `base_policy`.
        policy = given_policy(settings, suite, weights=False)
        spec = policy.spec
        check_robot(spec.robot, suite.robot)
        check_conditions(policy, suite, {ript.branch_mode for ript in methods.values()})
    else:
        spec = fresh_spec(settings, suite)
    settings.eval.executed(spec)
    suite.check_states(settings.eval.seeds)
    for size in (settings.sft.batch_size, *(ript.batch_size for ript in methods.values())):
        settings.hardware.check_batch(size)
    check_devices(settings.hardware)
    return spec


def check_sources(settings: TrainSettings) -> None:
    """Checks that demonstrations have one source at most, and one if they are needed.

    Raises:
        InputError: two sources, or none where demonstrations are needed.
    """
    made, folder = settings.demonstrations.episodes, settings.demonstrations.lerobot
    if made and folder:
        raise InputError(
            f"config.demonstrations.lerobot is {folder!r} and config.demonstrations.episodes is "
            f"{made}: demonstrations come from one place; set the other to '' or 0"
        )
    if made or folder:
        return
    if not settings.init.checkpoint or settings.sft.steps or _imitates(settings):
        raise InputError(
            "there are no demonstrations: set config.demonstrations.episodes or .lerobot, or "
            "config.init.checkpoint, with config.sft.steps and config.rl.demo_fraction at 0 and no "
            "baseline that imitates (config.baselines='{}' for none)"
        )
    if settings.init.statistics == OF_DEMONSTRATIONS:
        raise InputError("config.init.statistics is 'demonstrations', and there are none")


def _imitates(settings: TrainSettings) -> bool:
    """Whether a method of RL learns from demonstrations, or a baseline from nothing else."""
    methods = (settings.rl, *settings.baselines.values()) if settings.rl.iterations else ()
    return any(one.demo_fraction or not one.groups.groups_per_iteration for one in methods)


def check_conditions(policy: PolicyFolder, suite: Suite, branch_modes: Iterable[str]) -> None:
    """Checks that a checkpoint was trained with the same branch mode, and that all prompts fit it.

    Raises:
        InputError: another branch mode, or a prompt that is longer than the prompt length.
    """
    for mode in sorted(branch_modes):
        transforms = conditioned(policy, mode).transforms
        for positive in (False, True) if has_two_prompts(mode) else ():
            # Both branches: the positive prompt of `text_indicator` is longer than the other.
            for task in suite.tasks:
                transforms.check_prompt(task.instruction, positive)


def conditioned(policy: PolicyFolder, branch_mode: str) -> PolicyFolder:
    """The policy with `branch_mode` as the difference between its branches.

    Raises:
        InputError: its branches were trained with another mode.
    """
    before = policy.spec.branch_mode
    # "embedding" is also what a policy has that never had branches, so it may become another.
    free = before == EMBEDDING and not policy.has_condition
    if before != branch_mode and not free:
        raise InputError(
            f"config.rl.branch_mode is {branch_mode!r}, but the checkpoint was trained with "
            f"{before!r}: set it to that"
        )
    spec = dataclasses.replace(policy.spec, branch_mode=branch_mode)
    return dataclasses.replace(policy, spec=spec)


def fresh_spec(settings: TrainSettings, suite: Suite) -> PolicySpec:
    """A policy for this suite that is trained from scratch, with room for every prompt.

    It also has room for every state and action: a model that a CPU trains is as narrow as one arm.
    """
    model, robot = preset(settings.model), suite.robot
    modes = {ript.branch_mode for ript in (*settings.baselines.values(), settings.rl)}
    said = [branch_prompt(mode, task.instruction, True) for mode in modes for task in suite.tasks]
    # Baselines may have longer prompts than RIPT, and all start from one base policy. A pi0.5 has
    # its state in the prompt, and nowhere else.
    state = longest_state(len(robot.state)) if model.pi05 else None
    longest = max(len(ByteTokenizer().encode(text, state)) for text in said)
    width = max(model.action_dim, len(robot.state), len(robot.actions))
    length = max(model.prompt_length, longest)
    return PolicySpec(
        model=dataclasses.replace(model, prompt_length=length, action_dim=width),
        robot=robot,
        execute_steps=settings.execute_steps or model.action_horizon,
        tokenizer="bytes",
        quantile=model.pi05,
        state_in_prompt=model.pi05,
    )


def given_policy(settings: TrainSettings, suite: Suite, *, weights: bool = True) -> PolicyFolder:
    """The checkpoint that the config names, as the config wants it used.

    Args:
        settings: settings of the run.
        suite: set of tasks; its robot is that of the demonstrations.
        weights: whether to read the weights; else `params` are checked shapes.

    Raises:
        InputError: no such policy folder, or one that does not fit.
    """
    path = Path(settings.init.checkpoint).expanduser()
    if not path.is_dir():
        raise InputError(
            f"config.init.checkpoint: expected a policy folder, found none at {path.absolute()}; "
            "name the folder that this run started from"
        )
    # A reference that it carries is no part of what is trained: that of the result is its base.
    policy = dataclasses.replace((load_policy if weights else open_policy)(path), reference=None)
    changes: dict[str, Any] = {}
    if settings.execute_steps:
        changes["execute_steps"] = settings.execute_steps
    if settings.init.statistics == OF_DEMONSTRATIONS:
        # The checkpoint may be of another robot, with cameras that this one does not have.
        masked = policy.spec.robot.masked_cameras
        changes["robot"] = dataclasses.replace(suite.robot, masked_cameras=masked)
    return dataclasses.replace(policy, spec=dataclasses.replace(policy.spec, **changes))


def recorded_demonstrations(settings: TrainSettings, suite: Suite) -> LeRobotFolder | None:
    """The episodes of the suite's tasks in a LeRobot folder; None if the config names no folder.

    Raises:
        InputError: as `open_lerobot`, or the data are of another robot, or of another convention
            than it; before anything is written.
    """
    if not settings.demonstrations.lerobot:
        return None
    instructions = [task.instruction for task in suite.tasks]
    path = Path(settings.demonstrations.lerobot).expanduser()
    folder = read_lerobot(path, suite.robot.cameras)
    # What is damaged goes before what is missing, and episodes of other tasks are not looked at.
    refuse(folder.findings, path)
    folder = folder.only(instructions)
    folder.check_robot(suite.robot)
    findings = check_folder(folder, suite.robot, instructions)
    refuse(findings, path, settings.demonstrations.allow)
    return settings.demonstrations.kept(dataclasses.replace(folder, findings=tuple(findings)))


def point_at(file: Path, checkpoint: Path) -> None:
    """Notes which checkpoint is the base policy, instead of copying it.

    Args:
        file: base.json of the run folder.
        checkpoint: the policy folder.

    Raises:
        InputError: an earlier part of this run started from another checkpoint.
    """
    # A path alone would not do: another checkpoint may be put there between two parts of a run.
    now = {"checkpoint": str(checkpoint.resolve()), "fingerprint": fingerprint(checkpoint)}
    if not file.exists():
        write_text(file, json.dumps(now, indent=1) + "\n")
        return
    before = read_object(file)
    if before.get("fingerprint") != now["fingerprint"]:
        raise InputError(
            f"{checkpoint}: is another checkpoint than the one that this run started from "
            f"({before.get('checkpoint')} at that time); put that back, or start a new run"
        )


def fingerprint(checkpoint: Path) -> str:
    """A digest by which policy folders differ: of the digests of their files, and of small files.

    A folder of an earlier version has no digests, but one of its small files has a date.
    """
    names = ("config.json", "manifest.json", "params/_METADATA", "params/_CHECKPOINT_METADATA")
    names += (DIGESTS,)
    # Not of the weights: that would read gigabytes at every start.
    digest = hashlib.sha256()
    for name in names:
        if (checkpoint / name).is_file():
            digest.update(read_bytes(checkpoint / name))
    return digest.hexdigest()
