"""Bad input at every door of the programs and of the library, many of each kind."""

import shutil
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path

from pi0_jax.convert.commands import flax_to_torch, jax_to_flax, torch_to_flax
from pi0_jax.convert.commands.command import status
from pi0_jax.data.lerobot.check_folder import check_folder
from pi0_jax.data.lerobot.findings import refuse
from pi0_jax.data.lerobot.folder import read_lerobot
from pi0_jax.io.digests import DIGESTS
from pi0_jax.policy.policy import Policy
from torture import bad_commands, bad_configs, bad_values
from torture.bad_files import ABSENT, Reader, Thing, cases
from torture.flips import exported, quietly
from torture.ground import RUN, Ground, Row
from torture.power import reopened
from torture.refusals import Case, refused
from torture.tiny_run import config_of

_CONFIG, _STATS, _STORE = "config.json", "assets/default/norm_stats.json", "params/"


def given(ground: Ground, every: int = 1) -> Iterator[Row]:
    """A row per door.

    Args:
        ground: what all faults start from.
        every: of the cases of a door, only each so many-th.
    """
    run = ground.begin().parent / "made"
    shutil.copytree(ground.wanted / RUN, run)
    exported(run)
    for what, found in _doors(run):
        yield refused(what, islice(found, 0, None, every))


def _doors(run: Path) -> Iterator[tuple[str, Iterable[Case]]]:
    policy, none = run / "policy", run / "none"
    with bad_configs.checks_alone():
        configs = bad_configs.values(none, policy), bad_configs.files(none, _folder(run, "configs"))
        yield "impossible configs of train.py and eval.py", chain(*configs)
        bad = bad_commands.places(run / "bad")
        programs = bad_commands.of_programs(run, policy, bad)
        tools = bad_commands.of_tools(run, policy, run / "openpi", bad)
        yield "paths and flags that cannot be", chain(programs, tools)
    yield "observations that no policy can use", bad_values.observations()
    yield "policy folders", _of_policies(run)
    yield "run folders", cases(_a_run(run))
    yield "LeRobot folders", _of_data(run)
    yield "checkpoints of other libraries", _of_checkpoints(run)


def _folder(run: Path, name: str) -> Path:
    (run / name).mkdir()
    return run / name


def _of_policies(run: Path) -> Iterator[Case]:
    new, old = run / "policy", run / "old"
    shutil.copytree(new, old)
    (old / DIGESTS).unlink()
    stored = ("params/_METADATA", "params/manifest.ocdbt")
    files = (_CONFIG, _STATS, *stored, "manifest.json", "params/_CHECKPOINT_METADATA", "params/d/*")
    # Without digests it is one of an earlier version.
    absent = {DIGESTS: ABSENT}
    yield from cases(Thing("policy", new, (*files, DIGESTS), Policy.load, absent))
    yield from cases(Thing("policy without digests", old, (_CONFIG, _STATS, *stored), Policy.load))
    read = partial(Policy.load, old)
    yield from bad_values.of_file("policy", old / _CONFIG, bad_values.POLICY, read)


def _a_run(run: Path) -> Thing:
    config = config_of(run)
    files = (_CONFIG, "results.json", "metrics.jsonl", "episodes/eval/base_1.npz", "base/*.json")
    # Episodes are run again, rates are counted from them; of metrics a power cut takes the last.
    nothing = (*ABSENT, "a link to itself", "a dead link")
    none = {"results.json": nothing, "episodes/eval/base_1.npz": nothing}
    none |= {"metrics.jsonl": (*ABSENT, "cut short", "empty", "zeros")}
    return Thing("run", run, files, lambda path: reopened(path, config), none)


def _of_data(run: Path) -> Iterator[Case]:
    files = ("meta/info.json", "meta/tasks.parquet", "meta/episodes/*/*", "data/*/*")
    yield from cases(Thing("data", run / "lerobot", files, _read_data))
    read = partial(_read_data, run / "lerobot")
    yield from bad_values.of_file("data", run / "lerobot/meta/info.json", bad_values.INFO, read)


def _read_data(path: Path) -> None:
    """As a training does at its start."""
    folder = read_lerobot(path, None)
    refuse([*folder.findings, *check_folder(folder, None)], path)


def _of_checkpoints(run: Path) -> Iterator[Case]:
    lerobot = run / "as_lerobot"
    quietly(lambda: flax_to_torch.main([str(run / "policy"), str(lerobot), "--layout", "lerobot"]))
    for path in (run / "openpi", run / "orbax", lerobot):
        # As those of others, which have no digests.
        (path / DIGESTS).unlink()
    torch, orbax = (_converter(main, run) for main in (torch_to_flax.main, jax_to_flax.main))
    yield from cases(Thing("openpi", run / "openpi", ("model.safetensors", _STATS), torch))
    files = (_STATS, "params/_METADATA", "params/manifest.ocdbt")
    yield from cases(Thing("Orbax", run / "orbax", files, orbax))
    files = (_CONFIG, "*_preprocessor.json", "*_postprocessor.json", "*_step_*", "model.*")
    yield from cases(Thing("lerobot", lerobot, files, torch))
    yield from bad_values.weights(run / "weights", torch)


def _converter(main: bad_commands.Tool, run: Path) -> Reader:
    def convert(source: Path) -> int:
        code = status(main, [str(source), str(run / "converted")])
        shutil.rmtree(run / "converted", ignore_errors=True)
        return code

    return convert
