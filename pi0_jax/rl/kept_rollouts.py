"""The rollouts of an iteration that was interrupted: kept on disk, and not run again.

A kill leaves none of them, and then they are run again, with equal bits: only their time is lost.
So are those of all hosts but the first, which alone writes the run folder.
"""

import re
from pathlib import Path

from pi0_jax.hosts import talk
from pi0_jax.interruption import deferred
from pi0_jax.io.episodes import load_episodes, save_episodes
from pi0_jax.listing import entries
from pi0_jax.rollout.collect import Ended

_NAME = re.compile(r"[^.].*_(\d+)\.npz")


def keep(folder: Path, ended: Ended) -> None:
    """Writes one file per episode, TASK_SEED_ROLLOUT.npz; a stop waits for it.

    Args:
        folder: of this iteration alone.
        ended: its episodes so far; one of which the simulator failed is left out.
    """
    if not talk.leads():
        return
    with deferred("the rollouts of this iteration are stored"):
        for (task, seed, rollout), episode in ended.items():
            file = folder / f"{task}_{seed}_{rollout}.npz"
            if episode.error is None and not file.exists():
                save_episodes(file, [episode])


def kept(folder: Path) -> Ended:
    """Reads what `keep` wrote; empty without such a folder.

    Raises:
        InputError: a file is damaged.
    """
    found: Ended = {}
    for file in entries(folder, "*.npz") if talk.leads() else ():
        # Desktops and copying programs leave files of other names.
        if name := _NAME.fullmatch(file.name):
            for episode in load_episodes(file):
                found[episode.task, episode.seed, int(name[1])] = episode
    return found
