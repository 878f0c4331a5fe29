"""Commands beside train.py that write a folder of their own: eval.py, and conversions."""

import contextlib
import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pi0_jax.convert.commands import flax_to_torch, torch_to_flax
from pi0_jax.errors import InputError, first_line
from torture import ground as grounds
from torture import resume
from torture.compare import differences
from torture.ground import RUN, Ended, Ground, Recorded
from torture.moments import Change
from torture.tiny_run import TRAIN

OUT = "out"  # what a job writes
Again = Callable[[Path], str]


@dataclass(frozen=True)
class Job:
    """A command that ran to its end with the recorder.

    Attributes:
        name: of the command.
        words: its command line.
        run: its changes, with what was there before and after.
        wanted: a copy of the root after it.
        again: runs the same command on a root; returns its error.
    """

    name: str
    words: tuple[str, ...]
    run: Recorded
    wanted: Path
    again: Again

    def meet(self, ground: Ground, moment: Change, **fault: int) -> Ended:
        """Runs it on a fresh root, with a fault from a moment on (`recorder.settings`)."""
        ground.begin(self.run.before)
        return ground.execute(*self.words, **ground.recording(moment, **fault))

    def repeated(self, ground: Ground) -> list[str]:
        """Runs it again; what differs from the undisturbed one."""
        error = self.again(ground.root)
        return [error] if error else differences(self.wanted / OUT, ground.root / OUT)


def evaluation(ground: Ground) -> Job:
    """eval.py of the policy that the unbroken run made."""
    policy = ground.wanted / RUN / "policy"
    words = ("eval.py", *TRAIN, f"--checkpoint={policy}", f"--workdir={ground.root / OUT}")
    return _job(ground, "eval.py", words, _evaluate_again(policy))


def conversions(ground: Ground) -> list[Job]:
    """A conversion to our format, the same over an earlier output, and one to PyTorch's."""
    policy, torch = ground.wanted / RUN / "policy", ground.folder / "torch"
    out = str(ground.root / OUT)
    to_torch = (str(policy), "--layout", "openpi")
    _quietly(lambda: flax_to_torch.main([to_torch[0], str(torch), *to_torch[1:]]))
    words = ("-m", "convert.torch_to_flax", str(torch), out)
    again = _convert_again(lambda *flags: torch_to_flax.main([str(torch), out, *flags]))
    first = _job(ground, "convert.torch_to_flax", words, again)
    over = _job(
        *(ground, f"{first.name} over an earlier output", (*words, "--overwrite"), again),
        before=first.run,
    )
    words = ("-m", "convert.flax_to_torch", to_torch[0], out, *to_torch[1:])
    again = _convert_again(
        lambda *flags: flax_to_torch.main([to_torch[0], out, *to_torch[1:], *flags])
    )
    return [first, over, _job(ground, "convert.flax_to_torch", words, again)]


def _job(
    ground: Ground, name: str, words: tuple[str, ...], again: Again, before: Recorded | None = None
) -> Job:
    tree = before.after if before else None
    run = grounds.record(ground.folder, ground.library, ground.cache, words, tree)
    wanted = ground.folder / "kept" / name
    shutil.rmtree(wanted, ignore_errors=True)
    shutil.copytree(ground.root, wanted)
    return Job(name, words, run, wanted, again)


def _evaluate_again(policy: Path) -> Again:
    def again(root: Path) -> str:
        run = root / OUT
        begun = (run / ".lock").exists() or (run / "config.json").exists()
        return resume.evaluate(run, policy, *TRAIN, *["--resume"] * begun)

    return again


def _convert_again(convert: Callable[..., int]) -> Again:
    def again(root: Path) -> str:
        return _quietly(lambda: convert(*["--overwrite"] * (root / OUT).exists()))

    return again


def _quietly(convert: Callable[[], int]) -> str:
    """Runs a conversion in this process; returns its error."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = convert()
        except (InputError, OSError) as error:
            return first_line(error)
    return "" if code == 0 else said.getvalue()
