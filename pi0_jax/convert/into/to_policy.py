"""Any source -> policy folder: checks, writes, and says what it did."""

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pi0_jax.convert.files.remote import address
from pi0_jax.convert.into.policy_choice import ConvertRequest, assumed, policy_spec, usable
from pi0_jax.convert.into.statistics import FoundStats
from pi0_jax.convert.into.write_params import lossless, write_params
from pi0_jax.convert.keys.keymap import leaves
from pi0_jax.convert.settings.declared import TorchConfig
from pi0_jax.convert.sources.source import (
    Source,
    parameters,
)
from pi0_jax.data.action_space import NONE, mask_text
from pi0_jax.data.sentencepiece_file import load_pieces
from pi0_jax.errors import some
from pi0_jax.io.atomic import new_folder
from pi0_jax.io.metrics_writer import duration
from pi0_jax.io.place import check_space
from pi0_jax.policy.folder import PARAMS, TOKENIZER_FILE, describe
from pi0_jax.policy.spec import PolicySpec
from pi0_jax.robot import Robot
from pi0_jax.versions import versions

_NAMES = 14  # width of the summary's column of names
_MOST_NAMED = 8  # files in a note


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
            write_params(folder / PARAMS, source, dtype, address(request.source))
        notes = source.info.notes + changed + assumed(found, declared, request, spec)
        manifest = _manifest(source, found, request, dtype, digests.result()) | {"notes": notes}
        describe(folder, spec, found.stats, manifest, request.folder)
    notes += _beside_note(request) + _tokenizer_note(request)
    return _summary(source, found, notes, spec, dtype, time.monotonic() - start) + (
        f"\n{'written':<{_NAMES}}{request.destination}"
    )


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
        "source": address(request.source),
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
    if not request.beside:
        return []
    return [f"beside the checkpoint, not read: {some(request.beside, _MOST_NAMED)}"]


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
        ("executed", f"{spec.execute_steps} actions of each chunk"),
        ("statistics", f"{found.where} (asset id {found.asset_id})"),
        ("normalisation", normalisation_text(spec)),
        ("time", duration(seconds)),
        *(("note", note) for note in notes),
    )
    return "\n".join(f"{name:<{_NAMES}}{text}" for name, text in rows)


def normalisation_text(spec: PolicySpec) -> str:
    """Which statistics states and actions are normalised by."""
    return "1 % and 99 % quantiles" if spec.quantile else "mean and deviation"


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
