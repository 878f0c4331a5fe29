"""Damage of files: one bit, and more; each must be refused by whoever reads the file."""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from pi0_jax.errors import InputError
from pi0_jax.io.digests import check_digests
from pi0_jax.io.episodes import load_episodes
from pi0_jax.policy.folder import load_policy
from pi0_jax.training import checkpoint
from torture.ground import RUN, Ground, Row

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
    """Damages files of a finished run, one at a time, and reads what they belong to."""
    run = ground.begin() / "copy"
    shutil.copytree(ground.wanted / RUN, run)
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and _reader(run, path)]
    for name, damage in DAMAGES.items():
        draw, wrong = random.Random(name), []
        count = bits if name == "a flipped bit" else others
        # Every kind of file as often as every other: most files are TensorStore's.
        kinds: dict[str, list[Path]] = {}
        for path in files:
            kinds.setdefault(_kind(run, path), []).append(path)
        for number in range(count):
            path = draw.choice(kinds[sorted(kinds)[number % len(kinds)]])
            if not path.stat().st_size:
                continue
            wrong += _one(run, path, lambda content, a=damage, b=draw: a(content, b))
        yield Row(f"{name} in {len(kinds)} kinds of files", count, wrong)


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
    if "checkpoints" in parts:
        folder = run.joinpath(*parts[: parts.index("checkpoints") + 2])
        return lambda: _read_checkpoint(folder)
    return (lambda: load_episodes(path)) if path.suffix == ".npz" else None


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
