"""Command lines that cannot be followed: paths that are not there, or not free, and odd flags."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from pi0_jax.apps import check, cli, evaluate, export, serve, train
from pi0_jax.convert.commands import flax_to_jax, flax_to_torch, info, jax_to_flax, torch_to_flax
from pi0_jax.convert.commands.command import status
from pi0_jax.data import check as check_data
from pi0_jax.hosts.joining import joined
from torture.refusals import Case

Tool = Callable[[Sequence[str]], int]

_CONFIG = ("--config=demo", "--config.suite=scripted", "--config.task={}")
_ODD_FLAGS = (
    *("--dtype=int8", "--delta-mask=x", "--delta-mask=6,0", "--delta-dims=-1", "--robot=nobody"),
    *("--robot=nowhere.json", "--cameras=a,a", "--cameras=", "--asset-id=../x", "--state-dim=0"),
    *("--action-dim=x", "--num-heads=nan", "--std-floor=nan", "--std-floor=-1", "--ignore=nothing"),
    *("--norm-stats=nowhere", "--norm-stats=/dev/zero", "--norm-stats=/", "--adapt-to-pi=both"),
    *(
        "--layout=keras",
        "--action-horizon=0",
        "--base=nowhere",
        "--container=nothing",
        "--overwite",
    ),
)


def places(folder: Path) -> dict[str, Path]:
    """Where no folder can be made, or nothing can be read: the name of the fault -> a path."""
    folder.mkdir(parents=True)
    (folder / "file").write_text("mine\n")
    (folder / "full").mkdir()
    (folder / "full/mine").write_text("mine\n")
    (folder / "dead").symlink_to("/nowhere/at/all")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    return {
        "a file": folder / "file",
        "below a file": folder / "file/run",
        "another's folder": folder / "full",
        "a dead link": folder / "dead",
        "a link to itself": folder / "loop",
        "below a link to itself": folder / "loop/run",
        "a pipe": folder / "pipe",
        "a device": Path("/dev/null"),
        "a name of 300 letters": folder / ("x" * 300),
        "in /proc": Path("/proc/1/run"),
    }


def of_programs(run: Path, policy: Path, bad: dict[str, Path]) -> Iterator[Case]:
    """train.py and eval.py.

    Args:
        run: a run that has ended.
        policy: a sound policy folder.
        bad: from `places`.
    """
    sound = (*_CONFIG, f"--workdir={run.parent / 'none'}")
    for name, path in bad.items():
        yield _program(train.main, f"--workdir {name}", (*_CONFIG, f"--workdir={path}"))
        yield _program(train.main, f"--config {name}", (f"--config={path}", "--workdir=none"))
        yield _program(train.main, f"--config {name}.json", (f"--config={path}.json", sound[-1]))
        yield _program(evaluate.main, f"--checkpoint {name}", (*sound, f"--checkpoint={path}"))
    there = f"--workdir={run}"
    for words in (
        *((*_CONFIG, there), (*_CONFIG, there, "--resume"), (*sound, "--resume"), sound[:3]),
        *(sound[3:], (*sound, "more"), (*sound, "--resum"), (*sound, "--from=3")),
        *((*_CONFIG, there, "--resume", "--from=x"), (*sound, f"--checkpoint={policy}")),
        *((*sound, "--host=3/2"), (*sound, "--host=x"), (*sound, "--host=0/2")),
    ):
        yield _program(train.main, f"train.py {' '.join(words)}", words)
    for words in (sound, (*sound, f"--checkpoint={policy}", "--server=ws://x:1"),
                  (*sound, f"--checkpoint={run}"), (*sound, "--server=nonsense")):  # fmt: skip
        yield _program(evaluate.main, f"eval.py {' '.join(words)}", words)


def of_tools(run: Path, policy: Path, openpi: Path, bad: dict[str, Path]) -> Iterator[Case]:
    """Conversions, exports and checks; arguments as in `of_programs`, and a PyTorch checkpoint."""
    new = str(run.parent / "new")
    converters = (torch_to_flax.main, jax_to_flax.main, flax_to_jax.main)
    for name, path in bad.items():
        for main in converters:
            yield _tool(main, f"SRC {name}", str(path), new)
        yield _tool(torch_to_flax.main, f"DST {name}", str(openpi), str(path))
        yield _tool(torch_to_flax.main, f"DST {name} --overwrite", str(openpi), str(path),
                    "--overwrite")  # fmt: skip
        yield _tool(info.main, name, str(path))
        yield _tool(check_data.main, name, str(path))
        yield Case(f"check {name}", partial(check.main, [str(path)]))
        yield Case(f"export {name}", partial(export.main, [str(path), new]))
        serving = ["--checkpoint", str(path), "--port", "0"]
        yield Case(f"serve {name}", partial(serve.main, serving))
    for flag in _ODD_FLAGS:
        yield _tool(torch_to_flax.main, flag, str(openpi), new, flag)
    for main, words in (
        *((main, ("/", new)) for main in converters),
        *((torch_to_flax.main, (str(policy), new)), (jax_to_flax.main, (str(openpi), new))),
        *((flax_to_jax.main, (str(openpi), new)), (torch_to_flax.main, ())),
        *((torch_to_flax.main, (str(openpi), str(openpi), "--overwrite")),),
        *((torch_to_flax.main, (str(openpi), f"{openpi}/below")),),
        *((flax_to_torch.main, (str(policy), new, "--layout=keras")),),
        *((flax_to_torch.main, (str(policy), str(policy.parent), "--overwrite")),),
    ):
        yield _tool(main, " ".join(words), *words)


def _program(main: Callable[[cli.Arguments], None], name: str, words: tuple[str, ...]) -> Case:
    def call() -> None:
        given = cli.parse(["program", *words], checkpoint=main is evaluate.main)
        with joined(given.host, given.coordinator, lambda: None):
            main(given)

    return Case(name, call)


def _tool(main: Tool, name: str, *words: str) -> Case:
    return Case(f"{main.__module__}: {name}", partial(status, main, words))
