"""An evaluated policy against the scripted demonstrator of its suite, on the same initial states.

python bench/against_demonstrator.py RUN

RUN is a folder of eval.py. The demonstrator has the errors that RUN's config gives it
(config.task.demonstrator), as when it makes demonstrations.
"""

import argparse
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rates import rate_text
from stored_runs import evaluations, run_jobs

from pi0_jax.env.base import Job, Task
from pi0_jax.env.demonstrator import demonstrate
from pi0_jax.env.suite import Suite
from pi0_jax.rollout.episode_log import Key, key
from pi0_jax.run.paired import p_text, sign_test, won_lost


def main() -> None:
    """Prints both rates and their difference, per file of episodes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    evaluated = {
        name: {key(one): one.success for one in episodes}
        for name, episodes in evaluations(run).items()
    }
    shown = demonstrator(run, sorted({state for one in evaluated.values() for state in one}))
    for name, outcomes in evaluated.items():
        print(f"{name}: {rate(outcomes)}; the demonstrator on the same states: {rate(shown)}")
        print(difference(outcomes, shown))


def demonstrator(run: Path, states: list[Key]) -> dict[Key, bool]:
    """Success of the demonstrator from these states; without those where a simulator failed."""

    def jobs_of(suite: Suite, tasks: Mapping[str, Task]) -> list[Job]:
        """One demonstration per state."""
        # No pictures are needed, and they would cost more than the rest.
        style = replace(suite.style, render_every=100_000)
        return [Job(tasks[task], demonstrate, (seed, style)) for task, seed in states]

    done = run_jobs(run, jobs_of)
    pairs = zip(states, done, strict=True)
    return {state: episode.success for state, episode in pairs if episode is not None}


def rate(outcomes: dict[Key, bool]) -> str:
    """Success in per cent, with the number of episodes."""
    return f"{rate_text(sum(outcomes.values()), len(outcomes))} of {len(outcomes)}"


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
