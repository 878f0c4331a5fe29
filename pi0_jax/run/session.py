"""What every stage of a run needs: run folder, tasks, simulators and random streams."""

import contextlib
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np

from pi0_jax.env.base import Engine
from pi0_jax.env.robosuite.gl import choose_renderer
from pi0_jax.env.suite import Suite
from pi0_jax.episode import Episode
from pi0_jax.hosts import talk
from pi0_jax.io.metrics_writer import duration
from pi0_jax.ranges import check_ranges
from pi0_jax.run import engines, seeds
from pi0_jax.run.engines import PoolConfig
from pi0_jax.run.folder import PROGRESS, RunFolder, protocol
from pi0_jax.run.followed import open_run
from pi0_jax.run.methods import BASE


@dataclass(frozen=True)
class RunSettings:
    """The settings that every run has.

    Attributes:
        seed: seed of the whole run.
        rows: observations per call of a policy, in rollouts and evaluation; results depend on it,
            as rounding does.
        wandb_project: also send the metrics to this W&B project; "" for not.
        verbosity: what is written to standard error: 0, results and errors; 1, messages too; 2,
            progress too.
    """

    seed: Annotated[int, "[0, 1e11]"] = 0
    rows: Annotated[int, "[1, 1e5]"] = 8
    wandb_project: str = ""
    verbosity: Annotated[int, "[0, 2]"] = PROGRESS

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            InputError: named field.
        """
        check_ranges("config", self)


@dataclass(frozen=True, kw_only=True)
class SimulatedSettings(RunSettings):
    """Those of a run with simulators.

    Attributes:
        pool: where the simulators run.
    """

    pool: PoolConfig = field(default_factory=PoolConfig)


class Streams:
    """The random streams of a run; a mixin of what has a seed.

    Attributes:
        seed: seed of the whole run.
    """

    seed: int

    def rng(self, *key: int) -> np.random.Generator:
        """A generator of the run's seed and `key` alone: a resumed run draws the same."""
        return seeds.rng(self.seed, *key)

    def noise_key(self, method: str) -> jax.Array:
        """Key of the noise and times of a method's supervised updates."""
        return jax.random.key(self.seed ^ method_number(method))


@dataclass(frozen=True)
class Work(Streams):
    """A running job without simulators.

    Attributes:
        run: where everything is written.
        seed: seed of the whole run.
    """

    run: RunFolder
    seed: int


@dataclass(frozen=True)
class Session(Streams):
    """A running job.

    Attributes:
        run: where everything is written.
        suite: the tasks.
        pool: runs the simulators.
        seed: seed of the whole run.
        rows: observations per call of a policy; results depend on it, as rounding does.
    """

    run: RunFolder
    suite: Suite
    pool: Engine
    seed: int
    rows: int

    def first_state(self, first_seed: int) -> int:
        """Seed of the first initial state of a training stream: every run seed has its own."""
        return seeds.first_state(self.seed, first_seed)

    def log_speed(self, what: str, episodes: Sequence[Episode], seconds: float) -> dict[str, float]:
        """Logs how fast a phase of rollouts was; returns it as values for metrics.jsonl."""
        steps_per_s = sum(map(len, episodes)) / seconds
        per_minute = 60 * len(episodes) / seconds
        self.run.message(
            f"{what}: {len(episodes)} episodes in {duration(seconds)}, {steps_per_s:.0f} env "
            f"steps/s, {per_minute:.0f} episodes/min, {self.pool.workers} simulators, "
            f"{self.pool.renderer} rendering"
        )
        return {"env_steps_per_s": steps_per_s, "episodes_per_min": per_minute}


def _hosts() -> str:
    """How many there are, where there are several."""
    return f", {talk.count()} hosts of {jax.device_count()} devices" if talk.count() > 1 else ""


def _digests(config: Mapping[str, Any]) -> dict[str, str]:
    """What results were made of, by digest: the config, and the policies and data that it names.

    That of a policy folder covers its weights, statistics and tokenizer (`digests.json`).
    """
    ending = "_digest"
    named = {k.removesuffix(ending): str(v) for k, v in config.items() if k.endswith(ending)}
    text = json.dumps(config, sort_keys=True, default=repr)
    return {**named, "config": hashlib.sha256(text.encode()).hexdigest()}


def method_number(method: str) -> int:
    """What a method's name adds to random keys; 0 for the base policy, which all start from.

    Without it, continued training would draw the windows and the noise of the base's first updates.
    """
    # A checksum, because Python's own hash of a text differs from process to process.
    return 0 if method == BASE else zlib.crc32(method.encode())


@contextlib.contextmanager
def open_session(
    workdir: Path,
    resume: bool,
    settings: SimulatedSettings,
    suite: Suite,
    config: Mapping[str, Any],
    defaults: Mapping[str, Any],
    from_step: int | None = None,
) -> Iterator[Session]:
    """Opens the run folder and starts the simulators, which end with the session.

    Args:
        workdir: the run folder.
        resume: continue the run in the folder.
        settings: settings of the run.
        suite: the tasks.
        config: plain values to store: the whole config, and what else the run depends on.
        defaults: plain values of keys that a resumed run's own version did not know.
        from_step: checkpoint to go on from, instead of the newest.

    Raises:
        InputError: as `RunFolder`, nothing can render here, or there is no such cluster.
    """
    # A renderer and the cluster first: without them nothing is written.
    renderer, told = choose_renderer(), (settings.wandb_project, settings.verbosity)
    with engines.reached(settings.pool):
        made_with = {"renderer": renderer, "assets": suite.assets}
        rest = (*told, defaults, from_step, made_with)
        run = open_run(workdir, dict(config), resume, *rest)
        # Before any rollout: a resumed run on another renderer would mix two kinds of images.
        used = {"rows": settings.rows, "digests": _digests(config)}
        run.set_protocol({**protocol(suite, renderer), **used})
        with engines.started(settings.pool, renderer, suite.asset_folders) as pool:
            run.message(
                f"{suite.name}: {pool.workers} simulators, {renderer} rendering, {jax.devices()[0]}"
                f"{_hosts()}"
            )
            yield Session(run, suite, pool, settings.seed, settings.rows)
