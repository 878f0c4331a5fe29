"""Every file of a checkpoint that can hold weights, statistics or settings is read or known.

Anything else of such a kind is an error that names it: a file that nobody reads may be what makes
the policy act as it does. Pictures, texts and the like are listed in the manifest.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pi0_jax.convert.files.known_files import (
    ADAPTER_CONFIG,
    HIDDEN,
    MATTERS,
    STATISTICS,
    TRAINING,
    reason,
)
from pi0_jax.convert.files.weight_files import is_checkpoint
from pi0_jax.convert.settings.lerobot_processors import POSTPROCESSOR, PREPROCESSOR
from pi0_jax.convert.settings.torch_config import is_lerobot
from pi0_jax.convert.settings.transformers_processor import PICTURES, PROCESSOR
from pi0_jax.convert.sources.orbax_source import is_orbax
from pi0_jax.errors import InputError, some
from pi0_jax.plain_file import read_bytes
from pi0_jax.policy.folder import TOKENIZER_FILE

READ = {
    "config.json": "what the checkpoint declares",
    TOKENIZER_FILE: "copied into the policy folder",
    PICTURES: "how transformers turns pictures into numbers",
    PROCESSOR: "how transformers normalises, and turns pictures into numbers",
    "*.index.json": "which shard holds a tensor",
    ADAPTER_CONFIG: "how strongly an adapter counts",
}
"""Files of the checkpoint's own folder that another module reads."""

_PROCESSORS = {
    PREPROCESSOR: "how lerobot normalises inputs",
    POSTPROCESSOR: "how lerobot turns outputs into actions",
    **STATISTICS,
}
"""Files that are read only with a config.json of lerobot beside them."""

# Statistics lie in folders; --asset-id or an error chooses among several.
_STATISTICS = "norm_stats.json"

HARMLESS = {
    "tokenizer*.json": "PaliGemma's tokenizer for transformers; pi0_jax reads the original file",
    "special_tokens_map.json": "PaliGemma's tokenizer for transformers",
    "added_tokens.json": "PaliGemma's tokenizer for transformers",
    "chat_template.json": "a prompt for chats",
    "generation_config.json": "how words are drawn, of which pi0 has none",
    "manifest.json": "where an export of pi0_jax came from",
    "digests.json": "size and digest of each file of an export of pi0_jax",
    "*results*.json": "what an evaluation measured",
    "*metrics*.json": "what a training or an evaluation measured",
    "eval_info.json": "what an evaluation measured (lerobot)",
    "wandb/*": "a log",
    "logs/*": "a log",
    "videos/*": "what an evaluation showed",
    f"{HIDDEN}*": "of an editor, a copying program or a desktop: no library reads a hidden file",
}
"""Files that change no policy, beside those of `known_files.TRAINING`."""

# Folders of tools and desktops, not of the checkpoint, beside hidden ones.
_TOOLS = ("__pycache__", "__MACOSX", "@eaDir", "lost+found")
_NAMED = 6


def beside(path: Path, folder: Path, weights: Iterable[Path], ignored: Sequence[str]) -> list[str]:
    """Checks a checkpoint as `account` does, if the user gave a folder and not one file of it.

    Args:
        path: what the user gave.
        folder: where the checkpoint lies.
        weights: the files that hold its weights.
        ignored: names that the user says change nothing.

    Raises:
        InputError: as `account`.
    """
    # Of a file, or of params/ alone, the user has chosen what to read.
    given = path.is_dir() and folder.is_relative_to(path)
    return account(folder, weights, ignored) if given else []


def account(folder: Path, weights: Iterable[Path], ignored: Sequence[str] = ()) -> list[str]:
    """Checks that no file of a checkpoint is overlooked.

    Args:
        folder: where the checkpoint lies.
        weights: the files that hold its weights.
        ignored: names that the user says change nothing.

    Returns:
        What is not read, by its path in the folder, sorted. A checkpoint in a folder below is
        another one, and is named by its folder.

    Raises:
        InputError: files that may change the policy and that nothing reads, or an ignored name
            that is not there.
    """
    read, unknown, others = {file.resolve() for file in weights}, [], []
    entries = {path.relative_to(folder).as_posix(): path for path in _entries(folder)}
    if mistyped := set(ignored) - set(entries):
        raise InputError(f"--ignore {min(mistyped)}: {folder} has no such file")
    for name, path in entries.items():
        if not path.exists():
            _check_dead(path, name in ignored)
            others.append(name)
        elif path.is_dir():
            others.append(f"{name}/")
        elif path.resolve() in read or _is_read(path, name):
            continue
        elif path.suffix not in MATTERS or reason(name, HARMLESS | TRAINING) or name in ignored:
            others.append(name)
        else:
            unknown.append(name)
    if unknown:
        raise InputError(
            f"{folder}: {some(unknown, _NAMED)} may hold weights, statistics or "
            "settings, and nothing reads it; if it changes nothing, say so with --ignore NAME"
        )
    return sorted(others)


def _entries(folder: Path) -> Iterator[Path]:
    """Files and dead links of a checkpoint in all its folders, and other checkpoints below it."""
    for path in sorted(folder.iterdir()):
        if path.is_file() or (path.is_symlink() and not path.exists()):
            yield path
        elif path.name == "params" and is_orbax(path):
            continue
        elif path.is_dir() and not path.name.startswith((HIDDEN, *_TOOLS)):
            # What a link leads to is a part of something else.
            if path.is_symlink() or is_orbax(path) or is_checkpoint(path):
                yield path
            else:
                yield from _entries(path)


def _check_dead(link: Path, ignored: bool) -> None:
    """Checks that nothing is lost with a dead link, as in the hub's cache after a clean-up.

    Raises:
        InputError: its file could matter.
    """
    ignored = ignored or link.name.startswith(HIDDEN)  # such as an editor's lock
    if link.suffix in (*MATTERS, Path(TOKENIZER_FILE).suffix) and not ignored:
        raise InputError(
            f"{link}: a link to {link.readlink()}, which is not there; fetch the checkpoint again, "
            "or remove the link"
        )


def _is_read(path: Path, name: str) -> bool:
    if path.name == _STATISTICS:
        # Where `statistics.from_assets` looks.
        return name.startswith("assets/") or name.count("/") <= 2
    if path.name != name:
        return False
    if reason(name, _PROCESSORS) is None:
        return reason(name, READ) is not None
    return is_lerobot(path.parent) and (name in _PROCESSORS or _is_named(path))


def _is_named(path: Path) -> bool:
    """Whether a file is the state of one of lerobot's processors: one of them names it."""
    processors = [path.parent / name for name in (PREPROCESSOR, POSTPROCESSOR)]
    return any(path.name.encode() in read_bytes(file) for file in processors if file.is_file())
