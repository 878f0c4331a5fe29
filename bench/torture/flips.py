"""Damage of files: one bit, and more; each must be refused by whoever reads the file."""

import contextlib
import io
import itertools
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pi0_jax.apps import export
from pi0_jax.convert.commands import flax_to_jax, flax_to_torch, jax_to_flax, torch_to_flax
from pi0_jax.errors import InputError
from pi0_jax.io.digests import check_digests
from pi0_jax.io.episodes import load_episodes
from pi0_jax.policy.folder import load_policy
from pi0_jax.training import checkpoint
from torture import resume
from torture.ground import RUN, Ground, Row
from torture.tiny_run import TRAIN

Damage = Callable[[bytes, random.Random], bytes]


def one_bit(content: bytes, draw: random.Random) -> bytes:
    """Another bit somewhere."""
    place = draw.randrange(len(content))
    flipped = content[place] ^ (1 << draw.randrange(8))
    return content[:place] + bytes([flipped]) + content[place + 1 :]


def cut_short(content: bytes, draw: random.Random) -> bytes:
    """A file whose copy was interrupted."""
    return content[: draw.randrange(len(content))]


def zeros(content: bytes, draw: random.Random) -> bytes:
    """A block that never reached the disk."""
    place = draw.randrange(len(content))
    count = min(512, len(content) - place)
    # One byte differs in any case.
    end = content[place + count :]
    return content[:place] + bytes([content[place] ^ 1]) + bytes(count - 1) + end


DAMAGES: dict[str, Damage] = {"a flipped bit": one_bit, "cut short": cut_short, "zeros": zeros}


def damaged(ground: Ground, bits: int = 200, others: int = 40) -> Iterator[Row]:
    """Damages files of a finished run and of exports, one at a time, and reads what has them."""
    made = ground.begin() / "copy"
    shutil.copytree(ground.wanted / RUN, made)
    exported(made)
    files = [path for path in sorted(made.rglob("*")) if path.is_file() and _reader(made, path)]
    kinds = _by_kind(made, files)
    for name, damage in DAMAGES.items():
        draw, wrong = random.Random(name), []
        count = bits if name == "a flipped bit" else others
        for path in _in_turn(kinds, count, draw):
            wrong += _one(made, path, lambda content, a=damage, b=draw: a(content, b))
        yield Row(f"{name} in {len(kinds)} kinds of files", count, wrong)


def without_digest(ground: Ground, count: int = 60) -> Iterator[Row]:
    """Damages what has no digest, and resumes the finished run: one line or the end."""
    run = ground.begin()
    shutil.copytree(ground.wanted / RUN, run)
    names = ("config.json", "metrics.jsonl", "results.json", "episodes/eval/base_1.jsonl")
    files = [*(run / name for name in names), next(run.glob("episodes/demonstrations.jsonl"))]
    wrong = []
    for name, damage in DAMAGES.items():
        draw = random.Random(name)
        for path in _in_turn(_by_kind(run, files), count // len(DAMAGES), draw):
            content = path.read_bytes()
            path.write_bytes(damage(content, draw))
            said = resume.train(run, *TRAIN, "--resume")
            if said and not said.startswith("error: "):
                wrong.append(f"{path.relative_to(run)}: {name}: {said}")
            shutil.rmtree(run)
            shutil.copytree(ground.wanted / RUN, run)
    yield Row("the same in files without a digest, then resumed: no traceback", count, wrong)


def exported(run: Path) -> None:
    """Exports a run in all formats into folders of its own; they have digests as well."""
    policy, demos = str(run / "policy"), ("--episodes", "demonstrations")
    flags = (*demos, "--fps", "10", "--pictures", "png")
    quietly(lambda: flax_to_torch.main([policy, str(run / "openpi"), "--layout", "openpi"]))
    quietly(lambda: flax_to_jax.main([policy, str(run / "orbax")]))
    quietly(lambda: export.main([str(run), str(run / "lerobot"), *flags]))


def quietly(work: Callable[[], object]) -> None:
    """Runs a command without its words."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        work()


def _by_kind(made: Path, files: Iterable[Path]) -> dict[str, list[Path]]:
    """Kind -> its files that are not empty."""
    kinds: dict[str, list[Path]] = {}
    for path in files:
        if path.stat().st_size:
            kinds.setdefault(_kind(made, path), []).append(path)
    return kinds


def _in_turn(kinds: dict[str, list[Path]], count: int, draw: random.Random) -> Iterator[Path]:
    """Files of every kind as often as of every other: most are TensorStore's."""
    for _, kind in zip(range(count), itertools.cycle(sorted(kinds)), strict=False):
        yield draw.choice(kinds[kind])


def _one(run: Path, path: Path, damage: Callable[[bytes], bytes]) -> list[str]:
    """Damages one file, reads it, and puts it back."""
    content, read = path.read_bytes(), _reader(run, path)
    assert read is not None
    path.write_bytes(damage(content))
    try:
        read()
    except InputError:
        return []
    # Whatever else it raises is no message for a user.
    except Exception as error:  # noqa: BLE001
        return [f"{path.relative_to(run)}: {type(error).__name__}"]
    finally:
        path.write_bytes(content)
    return [f"{path.relative_to(run)}: silent"]


def _reader(run: Path, path: Path) -> Callable[[], object] | None:
    """What reads a file; None for one without a digest (docs/reliability.md)."""
    parts = path.relative_to(run).parts
    if parts[0] in ("base", "policy"):
        return lambda: load_policy(run / parts[0])
    if parts[0] in ("openpi", "orbax"):
        return lambda: _converted(run / parts[0])
    if parts[0] == "lerobot":
        return lambda: check_digests(run / parts[0])
    if "checkpoints" in parts:
        folder = run.joinpath(*parts[: parts.index("checkpoints") + 2])
        return lambda: _read_checkpoint(folder)
    return (lambda: load_episodes(path)) if path.suffix == ".npz" else None


def _converted(source: Path) -> None:
    """Converts an export back.

    Raises:
        InputError: it is damaged.
    """
    convert = torch_to_flax if source.name == "openpi" else jax_to_flax
    back = source.with_name("back")
    try:
        quietly(lambda: convert.main([str(source), str(back)]))
    finally:
        shutil.rmtree(back, ignore_errors=True)


def _read_checkpoint(folder: Path) -> None:
    """As a resumed run does, but nothing is set aside.

    Raises:
        InputError: it is damaged.
    """
    checkpoint.host_of(folder)
    check_digests(folder)


def _kind(run: Path, path: Path) -> str:
    """Files of one name, of TensorStore's data, or of episodes, are alike."""
    parts = path.relative_to(run).parts
    return f"{parts[0]}/{'d' if 'd' in parts else path.name if path.suffix != '.npz' else 'npz'}"
