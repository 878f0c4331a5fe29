"""What a stored loop has on disk, and how it is read back: states, episodes, kept rollouts.

    episodes/<method>/<iteration>.parts/  rollouts of an iteration that was interrupted
    episodes/<method>/<iteration>.npz   what the rollouts did; with images uint8[look, c, h, w, 3],
                                        unless the next iteration trains on its own windows alone
    checkpoints/<step>/                 train state, iteration, plan of initial states, outcomes,
                                        digests of the files of episodes: the newest, and the best
                                        (`rl/best.py`)

Axis letters: m window, c camera, h w image, H action horizon, d padded action dimension.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

from pi0_jax.episode import Episode, without_images
from pi0_jax.errors import InputError
from pi0_jax.hosts import talk
from pi0_jax.io.atomic import remove
from pi0_jax.io.episodes import load_episodes, save_episodes
from pi0_jax.io.metrics_writer import read_metrics
from pi0_jax.io.shared_episodes import of_first_host
from pi0_jax.io.zip_digest import digest_of
from pi0_jax.rl.best import best_steps, kept_by_drop
from pi0_jax.rl.init_states import InitStateSchedule, informative_groups
from pi0_jax.rl.iteration import CollectedGroups
from pi0_jax.rl.loop import windows_of, with_windows
from pi0_jax.rl.setup import LoopSetup, LoopState
from pi0_jax.rl.stop import Outcome, best_iteration
from pi0_jax.rollout.collect import groups_of
from pi0_jax.run.folder import RunFolder
from pi0_jax.training import checkpoint
from pi0_jax.training.checkpoint import CheckpointsConfig
from pi0_jax.training.fit import final_params
from pi0_jax.training.recovery import recover
from pi0_jax.training.saver import Saver
from pi0_jax.training.sharding import gather
from pi0_jax.training.step import Params
from pi0_jax.types import Batch

_PARTS, _EPISODES = ".parts", "episodes"


@dataclass(frozen=True)
class LoopCheckpointsConfig(CheckpointsConfig):
    """Which checkpoints a run with RL makes and keeps.

    Attributes:
        keep: the newest so many of each method; the best one (`rl/best.py`) is kept besides.
        every: iterations of RL from one checkpoint to the next; a run that is killed repeats those
            since the newest. The last is stored always. Supervised training has `sft.save_every`,
            in optimizer steps.
    """

    every: Annotated[int, "[1, 1e6]"] = 1


class LoopStore:
    """The states of one method's loop, and its episodes."""

    def __init__(
        self,
        run: RunFolder,
        name: str,
        setup: LoopSetup,
        saver: Saver,
        say: Callable[[str], None],
    ) -> None:
        """Reads and writes nothing yet.

        Args:
            run: the run folder.
            name: of the method.
            setup: fixed parts of the loop.
            saver: of the method's checkpoints.
            say: takes one line for a person at a time.
        """
        self._run, self._name, self._setup = run, name, setup
        self._saver, self._say = saver, say
        # Iterations of which nothing can be lost, and digests of their files; set by `resumed`.
        self._stored = 0
        self._digests: dict[str, str] = {}

    def unfinished(self, iteration: int) -> Path:
        """Folder of the rollouts of an iteration that was interrupted."""
        return self._episodes(iteration).with_suffix(_PARTS)

    def has(self, iteration: int) -> bool:
        """Whether the state after an iteration, or a later one, is stored or being written."""
        return iteration <= self._stored

    def save_episodes(self, iteration: int, episodes: Sequence[Episode]) -> None:
        """Begins to store the episodes of an iteration whose state is not stored.

        Raises:
            OSError: as `Saver.wait`.
        """
        self._saver.begin(partial(self._write_episodes, iteration, episodes))

    def save(self, state: LoopState, episodes: Sequence[Episode] | None = None) -> None:
        """Begins to store a state, once; the training goes on meanwhile.

        Args:
            state: state of the loop between two iterations.
            episodes: those of its last iteration, where they are not stored yet. They are on the
                disk first, because --resume cuts the buffer's windows from the episodes of every
                iteration that the checkpoint counts.

        Raises:
            OSError: as `Saver.save`.
        """
        if self.has(state.iteration):
            return
        step = self._setup.first_step + int(state.train_state.step)
        host = {"phase": "rl", "iteration": state.iteration}
        host |= {"init_states": asdict(state.init_states)}
        host |= {"outcomes": [asdict(outcome) for outcome in state.outcomes]}
        first = partial(self._write_first, state.iteration, episodes)
        self._saver.wait()
        best = talk.first(lambda: self._best(state, step))
        self._saver.save(step, state.train_state, host, best, first)
        self._stored = state.iteration

    def resumed(self, fresh: LoopState) -> LoopState:
        """The state at the newest checkpoint, its buffer included; `fresh` where there is none.

        Raises:
            InputError: a checkpoint belongs to another model or base, or episodes are damaged.
        """
        state = self._newest(fresh)
        self._stored = state.iteration
        talk.first(lambda: self._clean(state.iteration + 1))
        return state

    def _episodes(self, iteration: int) -> Path:
        """File of an iteration's episodes."""
        return self._run.episodes(f"{self._name}/{iteration:03d}")

    def _write_first(
        self, iteration: int, episodes: Sequence[Episode] | None
    ) -> dict[str, dict[str, str]]:
        """Writes the episodes, if any; what a checkpoint remembers of all files of episodes."""
        self._write_episodes(iteration, episodes)
        return {_EPISODES: dict(self._digests)}

    def _write_episodes(self, iteration: int, episodes: Sequence[Episode] | None) -> None:
        if episodes is None:
            return
        if self._setup.config.buffer_iterations == 1:
            # No later iteration trains on them, and images of LIBERO take gigabytes.
            episodes = tuple(without_images(episode) for episode in episodes)
        path = self._episodes(iteration)
        save_episodes(path, episodes)
        self._digests[str(iteration)] = digest_of(path)

    def _load_episodes(self, iteration: int) -> list[Episode]:
        """Raises an InputError where the file is damaged, or that of another iteration or run."""
        path = self._episodes(iteration)
        # Whole, so that the digest in it is that of its bytes.
        found = load_episodes(path)
        # A checkpoint of an earlier version has no digests.
        wanted = self._digests.get(str(iteration))
        if wanted and digest_of(path) != wanted:
            raise InputError(
                f"{path}: is not the file that iteration {iteration} of this run wrote; put that "
                "back, or go on from an earlier checkpoint (--resume --from STEP)"
            )
        return found

    def _best(self, state: LoopState, step: int) -> list[int]:
        """Steps of the best states, of those that are stored and this one."""
        lines = read_metrics(self._run.metrics.path)
        stored = {*checkpoint.steps(self._saver.folder), step}
        first = self._setup.first_step
        best = best_steps(state.outcomes, first, lines, self._name, stored)
        if self._setup.config.max_drop:
            # Not of the newest alone: where that is damaged, the one before is gone on from.
            newest = {one - first for one in sorted(stored)[-self._saver.keep :]}
            best |= {first + x for x in kept_by_drop(state.outcomes, step - first, newest)}
        return sorted(best)

    def _clean(self, following: int) -> None:
        """Removes kept rollouts of iterations that are done, or that will be done anew."""
        for folder in sorted(self._episodes(following).parent.glob(f"[0-9]*{_PARTS}")):
            if folder != self.unfinished(following):
                remove(folder)
                self._say(f"removed kept rollouts that are of no use now: {folder.name}")

    def _newest(self, fresh: LoopState) -> LoopState:
        folder = self._saver.folder
        recover(folder, "rl", self._say)
        # `ript` continues from `base` and shares its folder: a checkpoint may be of phase "sft".
        host = checkpoint.latest(folder)
        if host is None or host["phase"] != "rl":
            return fresh
        self._digests = dict(host.get(_EPISODES, {}))
        iteration, schedule = host["iteration"], InitStateSchedule(**host["init_states"])
        outcomes = tuple(Outcome(**outcome) for outcome in host["outcomes"])
        state = replace(fresh, iteration=iteration, init_states=schedule, outcomes=outcomes)
        if self._setup.config.max_drop:
            # Before the newest state, so that the device never holds both.
            state = replace(state, best=self._best_params(fresh, outcomes))
        # Leaf by leaf to where those of `fresh` lie: on a mesh, in parts.
        train_state = self._saver.restore(fresh.train_state)
        return replace(state, train_state=train_state, buffer=self._buffer(iteration))

    def _best_params(self, fresh: LoopState, outcomes: Sequence[Outcome]) -> Params:
        """The parameters of the best iteration's rollouts whose policy is there, on the host."""
        like, first = fresh.train_state, self._setup.first_step
        stored = talk.first(lambda: checkpoint.steps(self._saver.folder))
        # Where a run goes back by more than one checkpoint, the best before that may be gone.
        # Before the first update it was the policy that the loop started from.
        there = [x for x in outcomes if not x.optimizer_step or first + x.optimizer_step in stored]
        best = there[best_iteration(there)].optimizer_step if there else 0
        step = first + best
        return gather(final_params(self._saver.restore(like, step) if best else like))

    def _buffer(self, iteration: int) -> dict[int, Batch]:
        """The buffer after an iteration, actions float32[m, H, d], cut again from stored episodes.

        Windows are a function of episodes, so they need not be stored: images are stored once.
        """
        config, buffer = self._setup.config, {}
        kept = config.buffer_iterations
        # The oldest iteration that the next one will still train on.
        first = max(1, iteration - kept + 2) if kept else 1
        for number in range(first, iteration + 1):
            # Episodes lie as a table [group, rollout]; errors are left out of their groups.
            episodes = of_first_host(partial(self._load_episodes, number))
            groups = groups_of(episodes, config.groups.group_size)
            accepted = informative_groups(groups, config.groups.dynamic_sampling)
            fresh = windows_of(self._setup, CollectedGroups(groups=tuple(accepted)))
            buffer = with_windows(config, buffer, number, fresh)
        return buffer
