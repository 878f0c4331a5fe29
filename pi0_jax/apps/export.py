"""Rollouts and demonstrations as a LeRobot v3.0 folder, for other programs and for fine-tuning.

python -m pi0_jax.data.export RUN FOLDER          the episodes of a run: demonstrations, rollouts
python -m pi0_jax.data.export TASK.hdf5 FOLDER    LIBERO's own demonstrations, or a folder of them

A row per control step, with the columns success, advantages, action_is_pad, init_hash and
policy_step. Without --full-pictures a row shows the newest picture that the run has stored, and
picture_is_new says where that is its own; with it the simulator renders the others again. Episodes
of evaluations are left out unless --episodes names them, so that nobody trains on their states.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np

from pi0_jax.apps.config_file import load_config
from pi0_jax.apps.export_rows import advantages, rows
from pi0_jax.apps.settings import eval_settings
from pi0_jax.data.lerobot.write import KINDS, FolderWriter
from pi0_jax.data.libero_hdf5 import read_libero_hdf5
from pi0_jax.env.robosuite.gl import choose_renderer
from pi0_jax.env.suite import make_suite
from pi0_jax.episode import Episode
from pi0_jax.errors import InputError, exit_status
from pi0_jax.io.atomic import new_folder
from pi0_jax.io.episodes import VISIBLE, load_episodes
from pi0_jax.listing import below, entries
from pi0_jax.rollout.looks import replay_looks
from pi0_jax.run import engines
from pi0_jax.run.methods import DEMONSTRATIONS, EVALUATIONS

_HDF5 = (".hdf5", ".h5")
_Weighed = Iterator[tuple[Episode, float]]  # an episode and its advantage


def command() -> NoReturn:
    """`python -m pi0_jax.data.export`. Exit codes: 0, 1 for the disk, 2 for wrong input."""
    sys.exit(exit_status(lambda: main(sys.argv[1:]), "interrupted; nothing was written"))


def main(arguments: Sequence[str]) -> None:
    """Writes the folder, whole or not at all.

    Raises:
        InputError: wrong arguments, a damaged source, or a folder that is there already.
    """
    given = _parser().parse_args(arguments)
    source = Path(given.source).expanduser()
    with new_folder(Path(given.folder).expanduser()) as folder:
        if files := _hdf5(source):
            _check_flags(given)
            count = _write(folder, given, _from_hdf5(files, folder))
        else:
            count = _write(folder, given, _from_run(source, given))
    sys.stdout.write(f"{given.folder}: {count} episodes\n")


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m pi0_jax.data.export", description=__doc__, formatter_class=raw
    )
    parser.add_argument("source", help="a run folder, or HDF5 demonstrations of LIBERO")
    parser.add_argument("folder", help="the LeRobot folder to make")
    parser.add_argument(
        "--episodes",
        nargs="+",
        metavar="NAME",
        help="files below RUN/episodes without .npz, or folders there; "
        "default: demonstrations and every method's rollouts",
    )
    parser.add_argument("--pictures", choices=KINDS, default="av1", help="default: %(default)s")
    parser.add_argument(
        "--full-pictures", action="store_true", help="replay episodes: a picture at every step"
    )
    parser.add_argument(
        "--successes", action="store_true", help="only episodes that solved their task"
    )
    parser.add_argument("--fps", type=float, help="of a robot whose control rate is unknown")
    return parser


def _write(folder: Path, given: argparse.Namespace, episodes: _Weighed) -> int:
    """Writes episodes as they come; returns their number."""
    begin = next(episodes, None)
    if begin is None:
        wanted = "that solved its task" if given.successes else "without an error"
        raise InputError(f"{given.source}: expected at least one episode {wanted}")
    robot = begin[0].robot
    fps = given.fps or robot.control_hz
    if not fps:
        raise InputError(f"the control rate of robot {robot.name!r} is unknown; give --fps")
    with FolderWriter(folder, robot, fps, given.pictures) as writer:
        for episode, advantage in itertools.chain([begin], episodes):
            if episode.robot != robot:
                raise InputError(
                    f"{given.source}: episodes of the robots {robot.name!r} and "
                    f"{episode.robot.name!r}; a folder holds one"
                )
            writer.add(rows(episode, advantage))
        return writer.episodes


def _hdf5(source: Path) -> list[Path]:
    """The HDF5 file that is meant, or all in a folder."""
    if source.suffix in _HDF5:
        return [source]
    inside = entries(source, "[!.]*") if source.is_dir() else []
    return [path for path in inside if path.suffix in _HDF5]


def _check_flags(given: argparse.Namespace) -> None:
    """Checks that nothing was asked for that HDF5 demonstrations do not have.

    Raises:
        InputError: a flag that is for run folders.
    """
    for flag in ("episodes", "full_pictures"):
        if getattr(given, flag):
            raise InputError(
                f"--{flag.replace('_', '-')} is for a run folder; {given.source} has HDF5 "
                "demonstrations, whose episodes are all exported, with all pictures"
            )


def _from_hdf5(files: Sequence[Path], folder: Path) -> _Weighed:
    """LIBERO's demonstrations; their initial states go into a file beside lerobot's."""
    states: dict[str, np.ndarray] = {}
    for file in files:
        for demonstration in read_libero_hdf5(file):
            states[f"episode_{len(states)}"] = demonstration.initial_state
            yield demonstration.episode, 0.0  # nobody failed
    (folder / "meta").mkdir(exist_ok=True)
    np.savez_compressed(folder / "meta" / "initial_states.npz", allow_pickle=False, **states)


def _from_run(run: Path, given: argparse.Namespace) -> _Weighed:
    """The episodes of a run that ended without an error, with pictures."""
    files = _files(run, given.episodes)
    if given.full_pictures:
        yield from _replayed(run, files, given.successes)
        return
    for episode, advantage in (pair for file in files for pair in _usable(file, given.successes)):
        if not len(episode.image_steps):
            raise InputError(
                f"{run}: an episode of {episode.task} from state {episode.seed} has no pictures; "
                "add --full-pictures"
            )
        yield episode, advantage


def _replayed(run: Path, files: Sequence[Path], successes: bool) -> _Weighed:
    """The episodes with a picture at every step, rendered by the run's own simulator."""
    settings = eval_settings(load_config(str(run / "config.json")))
    suite = make_suite(settings.suite, settings.task)
    tasks = {task.name: task for task in suite.tasks}
    with (
        engines.reached(settings.pool),
        engines.started(settings.pool, choose_renderer(), suite.asset_folders) as pool,
    ):
        for file in files:
            episodes = _usable(file, successes)
            at_once = pool.workers
            for first in range(0, len(episodes), at_once):
                block = episodes[first : first + at_once]
                looks = replay_looks(pool, [(tasks[one.task], one) for one, _ in block])
                for (one, advantage), images in zip(block, looks, strict=True):
                    steps = np.arange(len(one), dtype=np.int32)
                    yield replace(one, images=images, image_steps=steps), advantage


def _files(run: Path, names: Sequence[str] | None) -> list[Path]:
    """The episode files that are meant, in order.

    Raises:
        InputError: there is none, or not one of this name.
    """
    root = run / "episodes"
    if names is None:
        inside = [path.relative_to(root) for path in below(root, VISIBLE)]
        # Not what an interruption left of an iteration: its episodes are not all there.
        every = [path.parts[0] for path in inside if not any(".parts" in x for x in path.parts)]
        kinds = {Path(name).stem for name in every} - {EVALUATIONS}
        names = sorted(kinds, key=lambda name: (name != DEMONSTRATIONS, name))
    found = []
    for name in names:
        there = [root / f"{name}.npz"] * (root / f"{name}.npz").is_file()
        there += entries(root / name, VISIBLE)
        if not there:
            raise InputError(f"{root}: expected episodes {name!r}, found none")
        found += there
    if not found:
        raise InputError(f"{run}: expected the episodes of a run, found none")
    return found


def _usable(file: Path, successes: bool) -> list[tuple[Episode, float]]:
    """The episodes of a file with a step and without an error, and their advantages.

    Args:
        file: of episodes.
        successes: leave out those that did not solve their task; advantages are against all.
    """
    episodes = [one for one in load_episodes(file) if one.error is None and len(one)]
    pairs = zip(episodes, advantages(episodes), strict=True)
    return [pair for pair in pairs if pair[0].success or not successes]
