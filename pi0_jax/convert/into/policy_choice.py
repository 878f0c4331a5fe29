"""What the new policy is: what the source says, what the user says, and what is assumed."""

from dataclasses import dataclass, replace
from pathlib import Path

from pi0_jax.convert.into.robot_choice import RobotWishes, choose_robot
from pi0_jax.convert.into.robot_notes import robot_notes
from pi0_jax.convert.into.statistics import FoundStats
from pi0_jax.convert.into.usable_stats import divisible, of_robot
from pi0_jax.convert.settings.declared import TorchConfig
from pi0_jax.convert.sources.source import Source
from pi0_jax.data.action_space import AS_THE_ROBOT, ActionSpace
from pi0_jax.errors import InputError
from pi0_jax.policy.spec import PolicySpec

# openpi's LIBERO client executes five actions of a chunk, then calls the policy again.
_EXECUTE_STEPS = 5
_ASSUMED_ABSOLUTE = (
    "no file says whether actions are relative to the state, or ALOHA's joints in pi's convention: "
    "neither is assumed; pi0_libero (openpi's and RLinf's) needs --delta-mask 6,-1, pi0_aloha_* "
    "--delta-mask 6,-1,6,-1 --adapt-to-pi openpi, pi0_aloha_sim --adapt-to-pi openpi"
)
_ASSUMED_PADDED = (
    "the state's text is assumed to be zero-padded, as lerobot 0.4 trained; for a policy that "
    "lerobot 0.5.0 trained give --no-padded-state-text"
)


@dataclass(frozen=True)
class ConvertRequest:
    """What the command line asks for.

    Attributes:
        source: the source as typed, for the manifest.
        folder: the source on this machine; its tokenizer is copied too.
        destination: policy folder to make.
        dtype: name of the dtype to write; None for one that loses nothing.
        delta_mask: which actions are relative to the state; None for what the source says.
        adapt_to_pi: whose conversion of ALOHA's joints surrounds the network; None as above.
        wishes: what is said about the robot.
        state_in_prompt: whether a pi0.5 reads its state as text; None for what the source says.
        padded_state_text: whether that text is padded to the model's width; None as above.
        quantile: whether to normalise by quantiles; None for what the source says.
        execute_steps: actions of a chunk that are executed; None as above.
        std_floor: what smaller deviations of the statistics are raised to; None to refuse them.
        overwrite: whether to replace an earlier policy folder.
        beside: files of the source that are not read, because they change nothing.
    """

    source: str
    folder: Path
    destination: Path
    dtype: str | None
    delta_mask: tuple[bool, ...] | None
    adapt_to_pi: str | None
    wishes: RobotWishes
    state_in_prompt: bool | None
    padded_state_text: bool | None
    quantile: bool | None
    execute_steps: int | None
    std_floor: float | None
    overwrite: bool
    beside: tuple[str, ...] = ()


def usable(
    found: FoundStats, spec: PolicySpec, request: ConvertRequest
) -> tuple[FoundStats, list[str]]:
    """The statistics as the policy folder gets them, and notes of what was changed.

    Raises:
        InputError: they are not of the policy's robot, or a dimension has no spread.
    """
    own = of_robot(found, spec.robot)
    return divisible(own, quantile=spec.quantile, floor=request.std_floor)


def policy_spec(
    source: Source, found: FoundStats, declared: TorchConfig, request: ConvertRequest, dtype: str
) -> PolicySpec:
    """The config.json of the new policy folder.

    Raises:
        InputError: settings that contradict each other.
    """
    # Activations get the dtype of the weights.
    model = replace(source.info.config, compute_dtype=dtype)
    state_in_prompt = _state_in_prompt(model.pi05, declared, request)
    if request.padded_state_text and not state_in_prompt:
        raise InputError(
            "--padded-state-text: this policy has no state in its prompt; leave it out"
        )
    space, asked = _action_space(declared, request), request.quantile
    return PolicySpec(
        model=model,
        robot=choose_robot(found, declared, request.wishes, model.action_dim, space),
        execute_steps=_execute_steps(declared, request, model.action_horizon),
        action_space=space,
        asset_id=found.asset_id,
        quantile=found.by_quantiles(pi05=model.pi05) if asked is None else asked,
        state_in_prompt=state_in_prompt,
        padded_state_text=state_in_prompt and _padded_state_text(declared, request),
    )


def _execute_steps(declared: TorchConfig, request: ConvertRequest, horizon: int) -> int:
    # What the user asks for is not cut: if a chunk has fewer, the policy's spec refuses it.
    return request.execute_steps or min(declared.execute_steps or _EXECUTE_STEPS, horizon)


def _state_in_prompt(pi05: bool, declared: TorchConfig, request: ConvertRequest) -> bool:
    if request.state_in_prompt and not pi05:
        raise InputError("--state-in-prompt: a pi0 reads its state by state_proj; leave it out")
    if request.state_in_prompt is not None:
        return request.state_in_prompt
    # openpi's `Pi0Config.discrete_state_input` is on unless a pi0.5's config turns it off.
    return pi05 and declared.state_in_prompt is not False


def _padded_state_text(declared: TorchConfig, request: ConvertRequest) -> bool:
    asked = request.padded_state_text
    return bool(declared.padded_state_text if asked is None else asked)


def _action_space(declared: TorchConfig, request: ConvertRequest) -> ActionSpace:
    """What the command line says, else what the source says."""
    told = declared.action_space or AS_THE_ROBOT
    mask, adapt = request.delta_mask, request.adapt_to_pi
    return ActionSpace(
        told.delta_mask if mask is None else mask, told.adapt_to_pi if adapt is None else adapt
    )


def assumed(
    found: FoundStats, declared: TorchConfig, request: ConvertRequest, spec: PolicySpec
) -> list[str]:
    """What is assumed because no file of the source says it.

    Args:
        found: the statistics.
        declared: what the checkpoint's config.json declares.
        request: what the command line asks for.
        spec: the policy that was made of them.
    """
    said = declared.action_space or request.delta_mask is not None or request.adapt_to_pi
    padded = declared.padded_state_text and request.padded_state_text is None
    return [
        *declared.notes,
        *robot_notes(found, declared, request.wishes, spec.action_space, spec.robot),
        *_state_note(spec.model.pi05, declared, request),
        *_normalisation_note(found, request, spec),
        *_executed_note(declared, request, spec),
        *[_ASSUMED_PADDED] * bool(padded),
        *[_ASSUMED_ABSOLUTE] * (not said),
    ]


def _normalisation_note(found: FoundStats, request: ConvertRequest, spec: PolicySpec) -> list[str]:
    if found.quantile is not None or request.quantile is not None:
        return []
    model, mode, other = (
        ("pi0.5", "1 % and 99 % quantiles", "--no-quantile")
        if spec.quantile
        else ("pi0", "mean and deviation", "--quantile")
    )
    return [
        f"normalisation by {mode} is assumed, as openpi does for a {model}; for the other give "
        f"{other}"
    ]


def _executed_note(declared: TorchConfig, request: ConvertRequest, spec: PolicySpec) -> list[str]:
    if declared.execute_steps or request.execute_steps:
        return []
    return [
        f"{spec.execute_steps} executed actions of each chunk are assumed, as openpi's LIBERO "
        "client does; for another number give --execute-steps N"
    ]


def _state_note(pi05: bool, declared: TorchConfig, request: ConvertRequest) -> list[str]:
    said = request.state_in_prompt is not None or declared.state_in_prompt is not None
    if said or not pi05:
        return []
    return [
        "the prompt is assumed to hold the state as text; for a policy without that, as "
        "pi05_libero, give --no-state-in-prompt"
    ]
