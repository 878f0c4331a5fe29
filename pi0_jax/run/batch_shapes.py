"""The shapes of a training batch of a policy: what its memory is counted for."""

from pi0_jax.data.branches import has_two_prompts
from pi0_jax.policy.policy import Policy
from pi0_jax.policy.spec import PolicySpec
from pi0_jax.training.memory import abstract_batch
from pi0_jax.types import Batch


def batch_shapes(spec: PolicySpec, size: int, *, chains: bool = False) -> Batch:
    """The shapes of a batch of windows, for this policy's network, robot and branches.

    Args:
        spec: the policy that is trained.
        size: number of windows.
        chains: windows carry the chains of their chunks (`policy/chains.py`).
    """
    return abstract_batch(
        spec.model,
        len(spec.robot.cameras),
        size,
        two_prompts=has_two_prompts(spec.branch_mode),
        chain=(Policy.num_flow_steps, len(spec.robot.actions)) if chains else None,
    )
