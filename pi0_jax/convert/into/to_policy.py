"""Any source -> policy folder, one layer at a time."""

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pi0_jax.convert.into.robot_choice import RobotWishes, choose_robot
from pi0_jax.convert.into.statistics import FoundStats
from pi0_jax.convert.into.usable_stats import divisible, of_robot
from pi0_jax.convert.keys.keymap import leaves
from pi0_jax.convert.settings.declared import TorchConfig
from pi0_jax.convert.sources.source import (
    Source,
    layer_arrays,
    leaf_shapes,
    parameters,
    progress_bar,
    tasks,
)
from pi0_jax.data.action_space import AS_THE_ROBOT, NONE, ActionSpace, mask_text
from pi0_jax.data.sentencepiece_file import load_pieces
from pi0_jax.errors import InputError
from pi0_jax.io import tree_check
from pi0_jax.io.atomic import new_folder
from pi0_jax.io.metrics_writer import duration
from pi0_jax.io.orbax_tree import TreeWriter
from pi0_jax.io.place import check_space
from pi0_jax.policy.folder import PARAMS, TOKENIZER_FILE, PolicySpec, describe
from pi0_jax.robot import Robot
from pi0_jax.versions import versions

# openpi's LIBERO client executes five actions of a chunk, then calls the policy again.
_EXECUTE_STEPS = 5
_MOST_NAMED = 8  # files in a note
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
    std_floor: float | None
    overwrite: bool
    beside: tuple[str, ...] = ()


def convert(
    source: Source, found: FoundStats, declared: TorchConfig, request: ConvertRequest
) -> str:
    """Writes the policy folder.

    Args:
        source: the weights; every name and shape has been checked.
        found: the statistics.
        declared: what the checkpoint's config.json declares.
        request: what the command line asks for.

    Returns:
        The summary to print, one line per fact.

    Raises:
        InputError: a weight is not finite (all are listed), or a setting does not fit.
    """
    start = time.monotonic()
    dtype = request.dtype or lossless(source.info.dtypes)
    spec = policy_spec(source, found, declared, request, dtype)
    _check_tokenizer(request, spec)
    found, changed = usable(found, spec, request)
    files = source.info.files
    size = parameters(source.info.config) * np.dtype(dtype).itemsize
    check_space(request.destination, size, "the parameters")
    with new_folder(request.destination, overwrite=request.overwrite) as folder:
        # Hashing reads every byte of the source; in a thread it overlaps the conversion.
        with ThreadPoolExecutor(1) as background:
            digests = background.submit(lambda: {_relative(f, request): sha256(f) for f in files})
            write_params(folder / PARAMS, source, dtype, str(request.source))
        notes = source.info.notes + changed + assumed(source, declared, request)
        manifest = _manifest(source, found, request, dtype, digests.result()) | {"notes": notes}
        describe(folder, spec, found.stats, manifest, request.folder)
    notes += _beside_note(request) + _tokenizer_note(request)
    return _summary(source, found, notes, spec, dtype, time.monotonic() - start) + (
        f"\n{'written':<12}{request.destination}"
    )


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
    return PolicySpec(
        model=model,
        robot=choose_robot(found, declared, request.wishes, model.action_dim),
        execute_steps=min(declared.execute_steps or _EXECUTE_STEPS, model.action_horizon),
        action_space=_action_space(declared, request),
        asset_id=found.asset_id,
        quantile=found.by_quantiles(pi05=model.pi05),
        state_in_prompt=state_in_prompt,
        padded_state_text=state_in_prompt and _padded_state_text(declared, request),
    )


def _state_in_prompt(pi05: bool, declared: TorchConfig, request: ConvertRequest) -> bool:
    if request.state_in_prompt and not pi05:
        raise InputError("--state-in-prompt: a pi0 reads its state by state_proj; leave it out")
    if request.state_in_prompt is not None:
        return request.state_in_prompt
    # openpi's `Pi0Config.discrete_state_input` is on unless a pi0.5's config turns it off.
    return pi05 if declared.state_in_prompt is None else declared.state_in_prompt


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


def assumed(source: Source, declared: TorchConfig, request: ConvertRequest) -> list[str]:
    """What is assumed because no file of the source says it."""
    said = declared.action_space or request.delta_mask is not None or request.adapt_to_pi
    padded = declared.padded_state_text and request.padded_state_text is None
    return [
        *declared.notes,
        *_state_note(source, declared, request),
        *[_ASSUMED_PADDED] * bool(padded),
        *[_ASSUMED_ABSOLUTE] * (not said),
    ]


def _state_note(source: Source, declared: TorchConfig, request: ConvertRequest) -> list[str]:
    said = request.state_in_prompt is not None or declared.state_in_prompt is not None
    if said or not source.info.config.pi05:
        return []
    return [
        "the prompt is assumed to hold the state as text; for a policy without that, as "
        "pi05_libero, give --no-state-in-prompt"
    ]


def lossless(dtypes: frozenset[str]) -> str:
    """The dtype that holds weights of these dtypes exactly: bfloat16 if all are, else float32."""
    return "bfloat16" if dtypes == {"bfloat16"} else "float32"


def write_params(
    path: Path, source: Source, dtype: str, title: str, *, condition: bool = True
) -> None:
    """Writes params/ layer by layer, with the condition embedding unless openpi will read it.

    Raises:
        InputError: one list of all weights that are not finite.
    """
    config = source.info.config
    shapes, bad = leaf_shapes(config), []
    total = len(tasks(config))
    with TreeWriter(path) as writer, progress_bar(title, total) as progress:
        for leaf in leaves(pi05=config.pi05):
            layered = leaf.depth is not None
            writer.create(f"params/{leaf.path}", shapes[leaf.path], dtype, layered=layered)
        # A write needs its array until it is done. Waiting for the one before keeps at most two
        # layers of the writer in memory, and lets the next be read meanwhile.
        last = None
        for done, array in enumerate(layer_arrays(source, dtype), 1):
            if not array.finite:
                bad.append(f"{array.name}: NaN or infinity")
            write = writer.write(f"params/{array.leaf.path}", array.values, array.layer)
            if last is not None:
                last.result()
            last = write
            progress.update(done, array.leaf.path)
        if last is not None:
            last.result()
        if condition:
            _write_condition(writer, source, dtype)
    # All bad weights in one error; the unfinished folder disappears with it.
    if bad:
        tree_check.fail(title, bad)


def _write_condition(writer: TreeWriter, source: Source, dtype: str) -> None:
    """Writes `cond_embed` [2, w]: zero where the source has none, so the policy acts as before."""
    shape = (2, source.info.config.action.width)
    values = source.cond_embed if source.cond_embed is not None else np.zeros(shape)
    writer.create("params/cond_embed", shape, dtype, layered=False)
    writer.write("params/cond_embed", values.astype(np.dtype(dtype))).result()


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _relative(file: Path, request: ConvertRequest) -> str:
    inside = file.is_relative_to(request.folder)
    return str(file.relative_to(request.folder) if inside else file)


def _manifest(
    source: Source, found: FoundStats, request: ConvertRequest, dtype: str, digests: dict[str, str]
) -> dict[str, Any]:
    info = source.info
    return {
        "made_by": "convert",
        "source": request.source,
        "layout": info.layout,
        "files_sha256": digests,
        "files_beside": list(request.beside),
        "statistics": found.where,
        "source_dtypes": sorted(info.dtypes),
        "dtype": dtype,
        "keys_used": info.used,
        "keys_unused": info.unused,
        "versions": versions(),
    }


def _check_tokenizer(request: ConvertRequest, spec: PolicySpec) -> None:
    """A tokenizer beside the source is copied; a wrong one would fail, or mislead, much later."""
    model = request.folder / TOKENIZER_FILE
    if model.exists() and spec.tokenizer == "paligemma":
        load_pieces(model, spec.model.vocab_size)


def _beside_note(request: ConvertRequest) -> list[str]:
    names = request.beside
    if not names:
        return []
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return [f"beside the checkpoint, not read: {', '.join(names[:_MOST_NAMED])}{more}"]


def _tokenizer_note(request: ConvertRequest) -> list[str]:
    if (request.folder / TOKENIZER_FILE).is_file():
        return []
    return [f"before the policy can act, put {TOKENIZER_FILE} into its folder"]


def _summary(
    source: Source,
    found: FoundStats,
    notes: list[str],
    spec: PolicySpec,
    dtype: str,
    seconds: float,
) -> str:
    info, model = source.info, spec.model
    count = parameters(model)
    rows: Sequence[tuple[str, str]] = (
        ("layout", info.layout),
        ("keys", f"{len(info.used)} used, {len(info.unused)} known to be unused, none left over"),
        ("model", "pi0.5" if model.pi05 else "pi0"),
        ("leaves", f"{len(leaves(pi05=model.pi05))} official, and cond_embed"),
        ("parameters", f"{count:,}"),
        ("bytes", f"{count * np.dtype(dtype).itemsize:,}"),
        ("dtype", f"{'/'.join(sorted(info.dtypes))} -> {dtype}"),
        ("compute", f"{model.compute_dtype}; output float32"),
        ("horizon", f"{model.action_horizon} actions per chunk"),
        ("robot", f"{spec.robot.name}, {len(spec.robot.state)} values of state"),
        ("cameras", camera_text(spec.robot)),
        ("actions", action_text(spec)),
        ("statistics", f"{found.where} (asset id {found.asset_id})"),
        ("time", duration(seconds)),
        *(("note", note) for note in notes),
    )
    return "\n".join(f"{name:<12}{text}" for name, text in rows)


def camera_text(robot: Robot) -> str:
    """The cameras that a policy sees, and those that are masked."""
    masked = ", ".join(robot.masked_cameras)
    return ", ".join(robot.cameras) + (f" (masked: {masked})" if masked else "")


def action_text(spec: PolicySpec) -> str:
    """How many actions, which are relative to the state, and in which convention."""
    space = spec.action_space
    text = str(len(spec.robot.actions))
    if any(space.delta_mask):
        text += f", relative to the state by the mask {mask_text(space.delta_mask)}"
    if space.adapt_to_pi != NONE:
        text += f", ALOHA's joints converted as in {space.adapt_to_pi}"
    return text
