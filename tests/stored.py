"""Runs of RIPT in a folder, and interruptions of them."""

import json

from loops import DEMOS, MIXED, OPTIMIZER
from tiny import RIPT

from pi0_jax.env.demonstrator import DemonstratorConfig
from pi0_jax.env.scripted import ScriptedTask
from pi0_jax.env.suite import Suite
from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.rl.metrics import PHASES
from pi0_jax.rl.stored_loop import run_stored_ript
from pi0_jax.rollout.policy_use import USE
from pi0_jax.run.folder import RunFolder
from pi0_jax.run.session import Session

FIRST_STEP = 20


def session(path, pool, resume: bool = False, task: ScriptedTask = MIXED) -> Session:
    suite = Suite("scripted", (task,), DemonstratorConfig())
    return Session(RunFolder(path, {}, resume), suite, pool, seed=0, rows=8)


def run(
    session: Session, base: PolicyFolder, config=RIPT, evaluation=None, optimizer=OPTIMIZER
) -> PolicyFolder:
    return run_stored_ript(
        session, "ript", base, DEMOS, config, optimizer, FIRST_STEP, evaluation=evaluation
    )


def lines(path) -> list[dict]:
    """metrics.jsonl without what depends on the clock."""
    clocks = ("time", "elapsed", "env_steps_per_s", "episodes_per_min", "seconds_eval", *PHASES)
    clocks += (*USE, "host_peak_gb")
    found = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    found = [line for line in found if "seconds_checkpoint" not in line]
    return [{k: v for k, v in line.items() if k not in clocks} for line in found]


def interrupt_second(monkeypatch, target, name: str):
    """The second call of `target.name` is an interruption."""
    interrupt(monkeypatch, target, name, 2)


def interrupt(monkeypatch, target, name: str, call: int):
    """One call of `target.name`, counted from 1, is an interruption."""
    original, calls = getattr(target, name), []

    def interrupted(*args, **options):
        calls.append(name)
        if len(calls) == call:
            raise InterruptedError
        return original(*args, **options)

    monkeypatch.setattr(target, name, interrupted)
