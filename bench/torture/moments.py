"""Moments at which a fault meets a run: before a change of the file system, or in a call."""

from dataclasses import dataclass

from torture.recorder import Kind


@dataclass(frozen=True)
class Change:
    """Before the first change of this kind to a path that contains a text (recorder.c).

    Attributes:
        part: part of the path; of the new one for a rename.
        kind: what the call does.
    """

    part: str
    kind: Kind


@dataclass(frozen=True)
class Call:
    """At the beginning of a call (struck.py), where nothing is written.

    Attributes:
        module: name of the module that calls.
        function: name of the function there.
        count: which of its calls, from 1.
    """

    module: str
    function: str
    count: int


CHANGES = {
    "the first write": Change(".config.json.partial", Kind.CREATE),
    "demonstrations": Change("demonstrations.parts/scripted_1.npz", Kind.RENAME),
    "SFT": Change("run/checkpoints/.2.pi0_jax-partial", Kind.MKDIR),
    "SFT checkpoint": Change("run/checkpoints/.2.pi0_jax-partial/state/_METADATA", Kind.WRITE),
    "base policy": Change(".base.pi0_jax-partial/config.json", Kind.WRITE),
    "evaluation": Change("eval/base_1.parts/scripted_100000.npz", Kind.RENAME),
    "episodes of RL": Change("episodes/ript/.002.npz.partial", Kind.WRITE),
    "RL checkpoint": Change("run/checkpoints/.5.pi0_jax-partial/state/_METADATA", Kind.WRITE),
    "removal of a checkpoint": Change("run/checkpoints/.4.pi0_jax-gone", Kind.RENAME),
    "evaluation after RL": Change("eval/ript_2.parts/scripted_100000.npz", Kind.RENAME),
    "videos": Change("videos/.ript", Kind.CREATE),
    "export": Change(".policy.pi0_jax-partial", Kind.MKDIR),
    "report": Change(".report.html.partial", Kind.WRITE),
}
CALLS = {
    # Each time rollouts have ended.
    "RL rollout": Call("pi0_jax.rl.iteration", "_report_all", 2),
    "RL update": Call("pi0_jax.rl.loop", "draw_batch", 1),
}
STAGES: dict[str, Change | Call] = CHANGES | CALLS
