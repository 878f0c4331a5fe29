"""What all faults start from: one unbroken run with its recorded changes, and rows of the table."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from torture import recorder, resume
from torture.disk import Tree, read_tree, write_tree
from torture.moments import Call, Change
from torture.tiny_run import ROOT, TRAIN, command, environment

RUN = "run"
_STRUCK = Path(__file__).with_name("struck.py")


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        fault: what was done.
        cases: how often.
        wrong: what went wrong, one line per case; empty where all is right.
        remark: what else there is to know.
    """

    fault: str
    cases: int
    wrong: list[str]
    remark: str = ""


@dataclass(frozen=True)
class Ended:
    """A process that has ended.

    Attributes:
        code: its exit code; negative for a signal.
        said: what it wrote to standard error.
    """

    code: int
    said: str

    @property
    def last(self) -> str:
        """Its last line."""
        return self.said.strip().rpartition("\n")[2]


@dataclass(frozen=True)
class Recorded:
    """A command that ran to its end.

    Attributes:
        changes: every change of the file system.
        before: what the root held before; None for nothing.
        after: what it holds now.
    """

    changes: list[recorder.Change]
    before: Tree | None
    after: Tree


@dataclass(frozen=True)
class Ground:
    """Folders and files that all parts share.

    Attributes:
        folder: for everything; in memory, since tens of thousands of files are written.
        library: the recorder.
        cache: compiled programs.
        run: the unbroken run, below `root`.
    """

    folder: Path
    library: Path
    cache: Path
    run: Recorded = field(repr=False)

    @property
    def root(self) -> Path:
        """Where commands write. One place: paths stand in stored configs."""
        return self.folder / "root"

    @property
    def wanted(self) -> Path:
        """A copy of the root of the unbroken run."""
        return self.folder / "wanted"

    def begin(self, tree: Tree | None = None) -> Path:
        """An empty root, or one that holds a tree; returns the run folder in it."""
        fresh_root(self.root, tree)
        return self.root / RUN

    def execute(self, *words: str, **settings: str) -> Ended:
        """Runs a command of this checkout to its end."""
        return execute(self.cache, words, settings)

    def train(self, *words: str, **settings: str) -> Ended:
        """train.py on the root, as a process."""
        return self.execute("train.py", *TRAIN, *words, f"--workdir={self.root / RUN}", **settings)

    def meet(self, moment: Change | Call, **fault: int) -> Ended:
        """train.py on an empty root, with a fault from a moment on.

        Args:
            moment: when.
            **fault: `signal`, or `errno` for a disk that is full from then on; both only before a
                change, in a call a signal.
        """
        self.begin()
        if isinstance(moment, Change):
            return self.train(**self.recording(moment, **fault))
        strike = (moment.module, moment.function, str(moment.count), str(int(fault["signal"])))
        words = (str(_STRUCK), *strike, "train.py", *TRAIN, f"--workdir={self.root / RUN}")
        return self.execute(*words)

    def recording(self, moment: Change, **fault: int) -> dict[str, str]:
        """Settings of a process that meets a fault at a change."""
        (self.folder / "log").unlink(missing_ok=True)
        place = {"kind": int(moment.kind), "part": moment.part}
        numbers = {name: int(value) for name, value in fault.items()}
        return recorder.settings(self.library, self.root, self.folder / "log", **place, **numbers)


@contextmanager
def ground(cache: Path | None = None) -> Iterator[Ground]:
    """Makes the unbroken run, in a temporary folder."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as name:
        folder = Path(name).resolve()
        library, cache = recorder.build(folder), cache or folder / "cache"
        words = ("train.py", *TRAIN, f"--workdir={folder / 'root' / RUN}")
        found = record(folder, library, cache, words)
        shutil.copytree(folder / "root", folder / "wanted")
        yield Ground(folder, library, cache, found)


def record(
    folder: Path, library: Path, cache: Path, words: tuple[str, ...], before: Tree | None = None
) -> Recorded:
    """Runs a command to its end, with the recorder, on FOLDER/root.

    Raises:
        RuntimeError: the command failed, or the recorder missed a change.
    """
    root, log = folder / "root", folder / "log"
    fresh_root(root, before)
    log.unlink(missing_ok=True)
    ended = execute(cache, words, recorder.settings(library, root, log))
    if ended.code:
        raise RuntimeError(f"{words[0]} failed: {ended.said}")
    return Recorded(recorder.read(log), before, read_tree(root))


def execute(cache: Path, words: tuple[str, ...], settings: Mapping[str, str]) -> Ended:
    """Runs a command of this checkout to its end."""
    env = {**environment(cache), **settings}
    found = subprocess.run(command(*words), cwd=ROOT, env=env, capture_output=True, text=True)
    return Ended(found.returncode, found.stderr)


def fresh_root(root: Path, tree: Tree | None = None) -> None:
    """An empty folder, or one that holds a tree."""
    shutil.rmtree(root, ignore_errors=True)
    write_tree(root, tree or {})


def train_again(root: Path) -> str:
    """train.py again on a root, in this process; with --resume where a run has begun."""
    run = root / RUN
    begun = (run / ".lock").exists() or (run / "config.json").exists()
    return resume.train(run, *TRAIN, *["--resume"] * begun)
