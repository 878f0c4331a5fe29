"""Which initial states come next, and which groups count: dynamic sampling over a balanced plan.

The schedule is a value, so a resumed run continues with the same states and knows the solved ones.

The plan of groups, read row by row, for two tasks and one state per group (fresh states):

    group index   task 0           task 1
    visit 0       0: first_seed    1: first_seed + 1
    visit 1       2: first_seed+2  3: first_seed + 3
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import numpy as np

from pi0_jax.env.base import Task
from pi0_jax.episode import Episode, Group
from pi0_jax.errors import InputError, check_choices
from pi0_jax.ranges import check_ranges
from pi0_jax.rollout.collect import Start

FRESH, DEMONSTRATIONS, VALIDATION = "fresh", "demonstrations", "validation"
_ALIKE_GROUPS = 4  # groups of one task that all ended alike say that it teaches nothing now
_EPOCHS = 10**6  # a run visits a state less often: no two runs share a visit, nor its noise


@dataclass(frozen=True)
class GroupConfig:
    """Which initial states an iteration tries, and how many.

    Attributes:
        group_size: rollouts K per group.
        groups_per_iteration: number of accepted groups wanted per iteration.
        max_groups: largest number of groups tried per iteration; with a policy that always
            succeeds or always fails the iteration ends here instead of searching forever.
        early_stop: no further round of search begins once this share of `groups_per_iteration` is
            accepted (RIPT-VLA's `early_stop_percentage`).
        states: "fresh", the states that `first_seed` and `num_states` describe;
            "demonstrations", those that the scripted demonstrations started from (RIPT-VLA's
            default); "validation", those of the evaluation (`use_val_init`: training on the test,
            for debugging only). The last two replace `first_seed` and `num_states`.
        first_seed: seed of the first training initial state.
        num_states: initial states per task. 0: an endless number of fresh ones, and every run
            seed has its own. n > 0: the seeds first_seed ... first_seed + n - 1, the same for every
            run seed, shuffled in each epoch.
        dynamic_sampling: reject groups that all ended alike.
        skip_threshold: a state that was solved in its last K rollouts is skipped
            `skip_threshold + 1` times; then its history is cleared and it is tried again. -1
            skips none. It needs states that come again: `num_states`.
        task_skip: turns that a task misses while its last four groups all ended alike, all solved
            or all failed; then it has one, and may come back. With many tasks the search goes to
            those that are neither too easy nor too hard. 0: tasks take turns, whatever happens.
        mix_states: the K rollouts of a group start from K different states of one task, instead of
            K times from one state; the baseline is then that of the task.
    """

    group_size: Annotated[int, "[2, 1e5]"]
    groups_per_iteration: Annotated[int, "[0, 1e6]"]
    max_groups: Annotated[int, "[0, 1e6]"]
    first_seed: Annotated[int, "[0, 1e18]"] = 200_000
    early_stop: Annotated[float, "(0, 1]"] = 1.0
    num_states: Annotated[int, "[0, 1e9]"] = 0
    dynamic_sampling: bool = True
    skip_threshold: Annotated[int, "[-1, 1e9]"] = 3
    task_skip: Annotated[int, "[0, 1e9]"] = 0
    mix_states: bool = False
    states: str = FRESH

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            InputError: named field.
        """
        check_ranges("rl.groups", self)
        check_choices("rl.groups", self, {"states": (FRESH, DEMONSTRATIONS, VALIDATION)})
        if self.max_groups < self.groups_per_iteration:
            raise InputError(
                f"rl.groups.max_groups ({self.max_groups}) must be at least "
                f"rl.groups.groups_per_iteration ({self.groups_per_iteration})"
            )
        if self.num_states and self.num_states < self.states_per_group:
            raise InputError(
                f"rl.groups.mix_states puts {self.states_per_group} states into a group; "
                f"rl.groups.num_states is {self.num_states}: give it at least as many, or 0"
            )

    @property
    def states_per_group(self) -> int:
        """Different initial states in one group."""
        return self.group_size if self.mix_states else 1

    @property
    def enough(self) -> int:
        """Accepted groups after which an iteration searches no further."""
        return max(1, int(self.groups_per_iteration * self.early_stop))


@dataclass(frozen=True)
class InitStateSchedule:
    """Position in the endless plan of initial states; all fields are JSON values.

    Group i of the plan belongs to task i mod number of tasks, so tasks stay balanced; with
    `task_skip` some of a task's groups are skipped. With one
    state per group and without `num_states` its seed is `first_seed + i`: seeds of demonstrations,
    training and evaluation start far apart and never overlap.

    A state solved in its last K rollouts is skipped `skip_threshold + 1` times; then its history is
    cleared and it is tried again.

    Attributes:
        first_seed: seed of the first initial state.
        stream: number of the shuffled order; it is the run's seed.
        drawn: number of groups of the plan so far, given out or skipped.
        accepted: number of informative groups so far.
        outcomes: last K outcomes of each state that comes again, oldest first, such as
            {"lift/7": "0111"}.
        skips: how often each solved state has been skipped.
        task_outcomes: last outcomes of each task, such as {"lift": "0111"}; kept with `task_skip`.
        missed: turns in a row that each task has missed.
    """

    first_seed: int
    stream: int = 0
    drawn: int = 0
    accepted: int = 0
    outcomes: Mapping[str, str] = field(default_factory=dict)
    skips: Mapping[str, int] = field(default_factory=dict)
    task_outcomes: Mapping[str, str] = field(default_factory=dict)
    missed: Mapping[str, int] = field(default_factory=dict)

    def next_groups(
        self, tasks: Sequence[Task], count: int, config: GroupConfig
    ) -> tuple[list[tuple[Start, ...]], int, "InitStateSchedule"]:
        """The initial states of the next groups.

        Looks at one epoch of states at most: if every state is solved, it finds none. Turns that a
        task misses do not count: it misses `task_skip` of them, and then has one.

        Args:
            tasks: all tasks of the suite.
            count: number of groups wanted.
            config: which states there are.

        Returns:
            At most `count` groups of `states_per_group` starts, how many groups were skipped (their
            states are solved, or their task misses its turn), and the schedule after them.
        """
        # 0 for fresh states: their plan has no end, and none of them comes again.
        epoch = _groups_per_epoch(config) * len(tasks)
        found: list[tuple[Start, ...]] = []
        skips, outcomes, missed = dict(self.skips), dict(self.outcomes), dict(self.missed)
        seen, looked = 0, 0
        while len(found) < count and looked < (epoch or count):
            group = self._group(tasks, self.drawn + seen, config)
            names = [_name(start.task.name, start.seed) for start in group]
            seen += 1
            if self._misses(group[0].task.name, missed, config):
                continue
            looked += 1
            # A mixed group is skipped only if every one of its states is solved.
            if all(_solved(outcomes.get(name, ""), config) for name in names):
                _pass_over(names, outcomes, skips, config.skip_threshold)
            else:
                found.append(group)
        memory = {"outcomes": outcomes, "skips": skips, "missed": missed}
        return found, seen - len(found), replace(self, drawn=self.drawn + seen, **memory)

    def record(
        self, groups: Sequence[Group], kept: int, config: GroupConfig
    ) -> "InitStateSchedule":
        """The schedule with the outcomes of some groups added.

        Args:
            groups: all groups that were tried, errors left out.
            kept: number of accepted groups among them.
            config: K, and whether states come again; of fresh states no outcome is kept.
        """
        outcomes, skips = dict(self.outcomes), dict(self.skips)
        episodes = [episode for group in groups for episode in group.episodes]
        # Fresh states never come again: a history of them would only grow.
        for episode in episodes if config.num_states else ():
            name = _name(episode.task, episode.seed)
            # A text of 0 and 1, oldest first, because the schedule is stored as JSON.
            history = outcomes.get(name, "") + str(int(episode.success))
            outcomes[name] = history[-config.group_size :]
            skips.pop(name, None)  # a state of a mixed group may be tried although it is solved
        done = replace(self, accepted=self.accepted + kept, outcomes=outcomes, skips=skips)
        # Without `task_skip` nothing reads them, and a stored schedule stays as it was.
        if not config.task_skip:
            return done
        return replace(done, task_outcomes=done._with(episodes, config))

    def _with(self, episodes: Sequence[Episode], config: GroupConfig) -> dict[str, str]:
        """The last outcomes of each task with those of `episodes` added."""
        outcomes = dict(self.task_outcomes)
        for episode in episodes:
            history = outcomes.get(episode.task, "") + str(int(episode.success))
            outcomes[episode.task] = history[-_ALIKE_GROUPS * config.group_size :]
        return outcomes

    def _misses(self, task: str, missed: dict[str, int], config: GroupConfig) -> bool:
        """Whether a task misses its turn; counts the turns that it missed, in place."""
        outcomes = self.task_outcomes.get(task, "")
        alike = len(outcomes) == _ALIKE_GROUPS * config.group_size and len(set(outcomes)) == 1
        if alike and missed.get(task, 0) < config.task_skip:
            missed[task] = missed.get(task, 0) + 1
            return True
        missed.pop(task, None)
        return False

    def _group(self, tasks: Sequence[Task], index: int, config: GroupConfig) -> tuple[Start, ...]:
        """The starts of group `index` of the plan."""
        # The plan as a table [visit, task], read row by row.
        visit, which = divmod(index, len(tasks))
        width = config.states_per_group
        if not config.num_states:
            # Seeds as a table [place, task]: no two groups and no two tasks share one.
            places = range(visit * width, (visit + 1) * width)
            seeds = [self.first_seed + place * len(tasks) + which for place in places]
            return tuple(Start(tasks[which], seed) for seed in seeds)
        # States that do not fill a group wait for the next epoch, which is shuffled again.
        epoch, place = divmod(visit, _groups_per_epoch(config))
        # A function of (run seed, epoch, task) alone, so no order has to be stored.
        # int[num_states]: each state of the task once.
        order = np.random.default_rng((self.stream, epoch, which)).permutation(config.num_states)
        # The epoch's order as a table [groups_per_epoch, states_per_group]; a group is a row.
        chosen = order[place * width : (place + 1) * width]  # [states_per_group]
        # A visit is part of the key of the rollouts' noise: the next epoch must draw other noise.
        number = self.stream * _EPOCHS + epoch
        # Tasks took turns in the demonstrations, and so each has seeds of its own.
        step, first = (len(tasks), which) if config.states == DEMONSTRATIONS else (1, 0)
        seeds = [self.first_seed + int(place) * step + first for place in chosen]
        return tuple(Start(tasks[which], seed, number) for seed in seeds)


def informative_groups(groups: Sequence[Group], dynamic: bool) -> list[Group]:
    """Leaves out groups without information, such as one in which errors left one rollout.

    Args:
        groups: finished groups.
        dynamic: dynamic sampling (RIPT): a group whose rollouts all ended alike has only zero
            advantages and is left out. Without it every other group counts.
    """
    # A leave-one-out baseline needs another rollout.
    comparable = [group for group in groups if len(group.episodes) > 1]
    return [group for group in comparable if not (dynamic and group.uniform)]


def _groups_per_epoch(config: GroupConfig) -> int:
    """Groups of one task until each of its states has come once; 0 for fresh states."""
    return config.num_states // config.states_per_group


def _name(task: str, seed: int) -> str:
    return f"{task}/{seed}"


def _solved(history: str, config: GroupConfig) -> bool:
    """Whether the last K outcomes are successes; with fewer than K a state is not solved yet."""
    return config.skip_threshold >= 0 and history == "1" * config.group_size


def _pass_over(
    names: Sequence[str], outcomes: dict[str, str], skips: dict[str, int], threshold: int
) -> None:
    """Counts a skip of each state, in place; after too many the state's history is cleared."""
    for name in names:
        skips[name] = skips.get(name, 0) + 1
        if skips[name] > threshold:
            del skips[name], outcomes[name]
