"""An evaluated policy against the scripted demonstrator of its suite, on the same initial states.

python bench/against_demonstrator.py RUN

RUN is a folder of eval.py. The demonstrator has the errors that RUN's config gives it
(config.task.demonstrator), as when it makes demonstrations.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

from pi0_jax.apps.config_file import load_config
from pi0_jax.apps.settings import eval_settings
from pi0_jax.env.base import Job
from pi0_jax.env.demonstrator import demonstrate
from pi0_jax.env.robosuite.gl import choose_renderer
from pi0_jax.env.suite import make_suite
from pi0_jax.rollout.episode_log import EpisodeLog, Key, key
from pi0_jax.run import engines
from pi0_jax.run.paired import p_text, sign_test, won_lost
from pi0_jax.run.success import wilson


def main() -> None:
    """Prints both rates and their difference, per file of episodes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    evaluated = {
        file.stem: {key(one): one.success for one in EpisodeLog(file).load() if not one.error}
        for file in sorted((run / "episodes" / "eval").glob("*.npz"))
    }
    shown = demonstrator(run, sorted({state for one in evaluated.values() for state in one}))
    for name, outcomes in evaluated.items():
        print(f"{name}: {rate(outcomes)}; the demonstrator on the same states: {rate(shown)}")
        print(difference(outcomes, shown))


def demonstrator(run: Path, states: list[Key]) -> dict[Key, bool]:
    """Success of the demonstrator from these states; without those where a simulator failed."""
    settings = eval_settings(load_config(str(run / "config.json")))
    suite = make_suite(settings.suite, settings.task)
    tasks = {task.name: task for task in suite.tasks}
    # No pictures are needed, and they would cost more than the rest.
    style = replace(suite.style, render_every=100_000)
    jobs = [Job(tasks[task], demonstrate, (seed, style)) for task, seed in states]
    with (
        engines.reached(settings.pool),
        engines.started(settings.pool, choose_renderer(), suite.asset_folders) as pool,
    ):
        done = [over.result for over in pool.run_all(jobs)]
    pairs = zip(states, done, strict=True)
    return {state: episode.success for state, episode in pairs if episode is not None}


def rate(outcomes: dict[Key, bool]) -> str:
    """Successes of episodes, with the Wilson interval."""
    won, count = sum(outcomes.values()), len(outcomes)
    low, high = wilson(won, count)
    return f"{won} of {count} [{low:.0%}, {high:.0%}]"


def difference(here: dict[Key, bool], there: dict[Key, bool]) -> str:
    """The paired difference in points with its 95 % interval, and the sign test."""
    won, lost = won_lost(here, there)
    count = len(here.keys() & there.keys())
    mean = (won - lost) / count
    error = 1.96 * math.sqrt((won + lost) / count - mean**2) / math.sqrt(count)
    return (
        f"  difference {100 * mean:+.1f} points [{100 * (mean - error):+.1f}, "
        f"{100 * (mean + error):+.1f}]: won {won}, lost {lost}, p {p_text(sign_test(won, lost))}"
    )


if __name__ == "__main__":
    main()
