"""Every setting of RIPT, in the sections of `config.rl`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Annotated, Any

from pi0_jax.data.branches import BRANCH_MODES, EMBEDDING
from pi0_jax.data.windows import WindowConfig
from pi0_jax.errors import InputError, check_choices
from pi0_jax.plain_values import build
from pi0_jax.ranges import check_ranges
from pi0_jax.rl.advantage import AdvantageConfig
from pi0_jax.rl.init_states import GroupConfig
from pi0_jax.rl.objectives.base import Objective
from pi0_jax.rl.objectives.cfg import Cfg
from pi0_jax.rl.objectives.cfg_detached import CfgDetached
from pi0_jax.rl.objectives.cfg_dropout import CfgDropout
from pi0_jax.rl.objectives.filtered_bc import FilteredBc
from pi0_jax.rl.objectives.flow_pg import FlowPg
from pi0_jax.rl.objectives.nft import Nft
from pi0_jax.training.optimizer import OptimizerConfig

OBJECTIVES = ("cfg", "cfg_detached", "cfg_dropout", "filtered_bc", "nft", "flow_pg")


@dataclass(frozen=True)
class RiptConfig:
    """What the RIPT loop collects and trains on.

    Attributes:
        iterations: number of RIPT iterations; with 0, train.py only imitates and evaluates.
        updates_per_iteration: optimizer updates per RIPT iteration.
        batch_size: windows per optimizer update.
        groups: which initial states, and which groups count.
        advantage: from outcomes to weights.
        windows: from episodes to windows.
        objective: name of the field below that gives the loss.
        cfg: settings of this objective.
        cfg_detached: settings of this objective.
        cfg_dropout: settings of this objective.
        filtered_bc: settings of this objective.
        nft: settings of this objective.
        flow_pg: settings of this objective.
        time_samples: noise/time draws per window and branch.
        branch_mode: what distinguishes the branches of guidance (`data/branches.py`); a policy
            keeps what it was trained with.
        guidance: scale at which the rollout policy acts.
        rollout_params: what acts in the rollouts: "last", the newest parameters; "ema", their
            moving average, which needs optimizer.ema_decay.
        buffer_iterations: train on the windows of the last n iterations, and drop older ones from
            memory; 0 keeps all. On disk, rollouts have their pictures unless n is 1.
        balance_tasks: draw every task's windows equally often, however long its episodes are and
            however many of its groups were accepted; else every window is equally likely.
        demo_fraction: share of a batch drawn from demonstrations. They train the unconditional
            branch, if the objective has one, and the conditional one as `demo_weight` says.
        demo_weight: weight of demonstrations in the conditional branch; at 0 they do not hold the
            policy at guidance 1 (with `cfg_detached` they then train one embedding row alone).
        max_drop: stop as soon as the success of the rollouts lies more than this many standard
            errors below that of the best iteration, and keep the policy of those rollouts; 0
            never stops. The best of many iterations is partly luck: a policy that stays as it is
            is stopped within 12 iterations in half of the runs at 2, in 6 % at 3. With
            groups.num_states solved states are skipped, which looks like a drop.
        log_every: updates between two measurements, because each waits for the device; the
            metrics of an iteration are means over the measured updates.
    """

    iterations: Annotated[int, "[0, 1e9]"]
    updates_per_iteration: Annotated[int, "[1, 1e6]"]
    batch_size: Annotated[int, "[1, 1e6]"]
    groups: GroupConfig
    advantage: AdvantageConfig = field(default_factory=AdvantageConfig)
    windows: WindowConfig = field(default_factory=WindowConfig)
    # By docs/results.md: `cfg`, as specified, is behind it at equal rollouts.
    objective: str = "cfg_detached"
    # A new objective is a file in rl/objectives/ and a line here.
    cfg: Cfg = field(default_factory=Cfg)
    cfg_detached: CfgDetached = field(default_factory=CfgDetached)
    cfg_dropout: CfgDropout = field(default_factory=CfgDropout)
    filtered_bc: FilteredBc = field(default_factory=FilteredBc)
    nft: Nft = field(default_factory=Nft)
    flow_pg: FlowPg = field(default_factory=FlowPg)
    time_samples: Annotated[int, "[1, 1000]"] = 1
    branch_mode: str = EMBEDDING
    guidance: Annotated[float, "[0, 1000]"] = 1.0
    rollout_params: str = "last"
    buffer_iterations: Annotated[int, "[0, 1e9]"] = 0
    balance_tasks: bool = False
    demo_fraction: Annotated[float, "[0, 1)"] = 0.0
    demo_weight: Annotated[float, "[0, 1000]"] = 0.0
    max_drop: Annotated[float, "[0, 1000]"] = 0.0
    log_every: Annotated[int, "[1, 1e9]"] = 10

    def __post_init__(self) -> None:
        """Rejects unknown names, values out of range, and options that another one disables.

        Raises:
            InputError: named field.
        """
        check_ranges("rl", self)
        choices = {"rollout_params": ("last", "ema"), "branch_mode": BRANCH_MODES}
        choices |= {"objective": OBJECTIVES}
        check_choices("rl", self, choices)
        if self.demo_weight and not self.demo_fraction:
            raise InputError(
                f"rl.demo_weight is {self.demo_weight}, but no demonstrations are drawn: set "
                "rl.demo_fraction, or rl.demo_weight to 0"
            )
        wrong = [
            f"rl.{key}={need!r} (got {got!r})"
            for key, need in self.chosen.requires.items()
            if (got := attrgetter(key)(self)) != need
        ]
        if wrong:
            raise InputError(
                f"rl.objective {self.objective!r} needs {', '.join(wrong)}: set all of them, or "
                "choose another objective"
            )
        self._check_demonstrations()

    def _check_demonstrations(self) -> None:
        """Checks that demonstrations in a batch change something, and are not all of it."""
        share, size = self.demo_fraction, self.batch_size
        demos = round(size * share)
        if share and not demos:
            raise InputError(
                f"rl.demo_fraction {share:g} of rl.batch_size {size} is less than one window: "
                "raise one of them, or set rl.demo_fraction to 0"
            )
        if demos == size:
            raise InputError(
                f"rl.demo_fraction {share:g} of rl.batch_size {size} leaves no window of rollouts: "
                "lower it, or raise rl.batch_size"
            )
        if share and not self.demo_weight and not self.chosen.has_guidance:
            raise InputError(
                f"rl.demo_fraction is {share:g}, but rl.demo_weight is 0 and rl.objective "
                f"{self.objective!r} trains no unconditional branch, so demonstrations would do "
                "nothing: set rl.demo_weight, e.g. to 1, or rl.demo_fraction to 0"
            )

    def __str__(self) -> str:
        """One line for the log: what is switched on."""
        s, a = self.groups, self.advantage
        weights = "success" if a.success_weight else f"{a.negatives}, {a.rescale}"
        demos = f", {self.demo_fraction:.0%} demonstrations" if self.demo_fraction else ""
        demos += ", tasks equally often" if self.balance_tasks else ""
        stop = f"; stops {self.max_drop:g} standard errors below the best" if self.max_drop else ""
        return (
            f"{self.iterations} iterations of {s.groups_per_iteration} groups x {s.group_size} "
            f"from {s.states} states (at most {s.max_groups} tried, dynamic sampling "
            f"{'on' if s.dynamic_sampling else 'off'}) and {self.updates_per_iteration} updates of "
            f"{self.batch_size} windows{demos}; weights {weights}; "
            f"{self.branch_mode}, {self.chosen}; rollouts at guidance "
            f"{self.guidance:g} with the {self.rollout_params} parameters{stop}"
        )

    @property
    def chosen(self) -> Objective:
        """The objective that `objective` names."""
        return getattr(self, self.objective)

    @property
    def warning(self) -> str | None:
        """A warning to log before training with these settings; None where none is due."""
        # A clipped ratio bounds what a negative weight can do to this loss.
        bounded = isinstance(self.chosen, FlowPg) and self.advantage.negatives == "signed"
        return None if bounded else self.advantage.warning

    def check_optimizer(self, optimizer: OptimizerConfig) -> None:
        """Checks that the optimizer keeps the parameters that act in the rollouts.

        Raises:
            InputError: rollouts need a moving average that is not kept, or the policy that
                `max_drop` would keep is one that never acted.
        """
        if self.max_drop and optimizer.ema_decay and self.rollout_params != "ema":
            raise InputError(
                "rl.max_drop keeps the policy of the best rollouts, but with "
                f"rl.optimizer.ema_decay {optimizer.ema_decay:g} the policy is an average that "
                "makes none: set rl.rollout_params to 'ema', or one of the other two to 0"
            )
        if self.rollout_params == "ema" and not optimizer.ema_decay:
            raise InputError(
                "rl.rollout_params is 'ema', but rl.optimizer.ema_decay is 0 and no moving "
                "average is kept; set it, e.g. to 0.99"
            )


def check_unused_objectives(methods: Iterable[RiptConfig]) -> None:
    """Checks that no method sets an objective that neither it nor another method trains with.

    A run shares its sections among several methods, so a section may differ from its default if
    some method with these settings has chosen that objective.

    Args:
        methods: all of a run, baselines included.

    Raises:
        InputError: settings of an objective without any effect.
    """
    methods = list(methods)
    # Settings are frozen values, so (name, settings) pairs can be compared and hashed.
    used = {(method.objective, method.chosen) for method in methods}
    for method in methods:
        for name in OBJECTIVES:
            settings = getattr(method, name)
            if settings != type(settings)() and (name, settings) not in used:
                raise InputError(
                    f"rl.{name} is set ({settings}), but no method with these settings has "
                    f"rl.objective {name!r}: choose it, or leave rl.{name} at its default"
                )


def ript_config(values: Mapping[str, Any]) -> RiptConfig:
    """A `RiptConfig` from the plain values of `config.rl`, its optimizer left out.

    Raises:
        InputError: a key that is unknown or missing, or a value out of range.
    """
    return build("rl", RiptConfig, values)
