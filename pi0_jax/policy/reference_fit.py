"""Puts a policy and the base that its guidance leads away from together, if they fit.

Both see the same observation and predict in the same normalised units, or the difference of their
velocities would mean nothing.
"""

import dataclasses
from pathlib import Path
from typing import Any

from pi0_jax.data.branches import EMBEDDING
from pi0_jax.errors import InputError
from pi0_jax.io.orbax_tree import nest
from pi0_jax.io.tree_check import leaves_by_path
from pi0_jax.policy.compare import difference, same_bits, same_rounded
from pi0_jax.policy.folder import PolicyFolder, load_policy
from pi0_jax.policy.reference import kind_of

# What decides how an observation is shown and what a velocity means. `execute_steps` does not: the
# policy's counts. `asset_id` is the name of a folder.
_SAME = (
    "model",
    "robot",
    "action_space",
    "tokenizer",
    "quantile",
    "state_in_prompt",
    "padded_state_text",
)


def with_reference(policy: PolicyFolder, base: PolicyFolder) -> PolicyFolder:
    """The policy with `base` as the reference of its guidance.

    Values are compared once, here: leaves that are equal become one array, so that they are held
    and stored once, and an equal VLM is run once. Leaves are equal also where the policy's are the
    base's in a narrower dtype: `hardware.frozen_dtype` rounds what is not trained, and the
    rounding is no part of what training changed.

    Args:
        policy: the policy that acts.
        base: another policy of the same architecture and for the same inputs, such as the one
            that RL started from.

    Raises:
        InputError: the base does not fit; the message names the first difference.
    """
    check_reference(policy, base)
    ours = leaves_by_path(policy.params)
    theirs = leaves_by_path(base.params)
    shared = {n: ours[n] if n in ours and _equal(ours[n], x) else x for n, x in theirs.items()}
    return dataclasses.replace(policy, reference=nest(shared))


def _equal(ours: Any, theirs: Any) -> bool:
    return same_bits(ours, theirs) or same_rounded(ours, theirs)


def load_with_reference(path: str | Path, reference: str | Path) -> PolicyFolder:
    """Reads a policy folder, and as its reference the one that `reference` names, if it is a path.

    Raises:
        InputError: one of them is no policy folder, or the base does not fit.
    """
    folder = load_policy(path)
    is_path = kind_of(reference) != reference
    return with_reference(folder, load_policy(reference)) if is_path else folder


def check_reference(policy: PolicyFolder, base: PolicyFolder) -> None:
    """Checks that a base takes and gives what the policy does.

    Raises:
        InputError: it does not; the message names the first difference.
    """
    where = f"reference {base.path}" if base.path else "the reference"
    wrong = ""
    for name in _SAME:
        wrong = wrong or difference(name, getattr(policy.spec, name), getattr(base.spec, name))
    for name in ("state", "actions"):
        ours, theirs = (getattr(folder.stats, name) for folder in (policy, base))
        wrong = wrong or difference(f"statistics of {name}", ours, theirs)
    if wrong := wrong or _branch_difference(policy, base):
        raise InputError(
            f"{where} does not fit the policy: {wrong}; name a policy of the same kind, such as "
            "the one that training started from"
        )


def _branch_difference(policy: PolicyFolder, base: PolicyFolder) -> str:
    """How the branch modes differ; "" if the base can be told what the policy is told."""
    ours, theirs = policy.spec.branch_mode, base.spec.branch_mode
    # "embedding" is also what a policy has that never had branches: its embedding is zero.
    if ours == theirs or (theirs == EMBEDDING and not base.has_condition):
        return ""
    return f"branch_mode is {theirs!r}, the policy's {ours!r}"
