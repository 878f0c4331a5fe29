"""What lerobot's and transformers' config.json spell out and every pi0 and pi0.5 has in common."""

from typing import Any

from pi0_jax.types import FLOW_STEPS

NETWORK: dict[str, Any] = {
    # Times of training: Beta(1.5, 1) * 0.999 + 0.001.
    "time_sampling_beta_alpha": 1.5,
    "time_sampling_beta_beta": 1.0,
    "time_sampling_scale": 0.999,
    "time_sampling_offset": 0.001,
    # Periods of the time embedding.
    "min_period": 0.004,
    "max_period": 4.0,
}
VARIANTS = {"paligemma_variant": "gemma_2b", "action_expert_variant": "gemma_300m"}
"""openpi and lerobot build networks by these names only; they cannot load other sizes."""


def steps_note(library: str, steps: Any) -> tuple[str, ...]:
    """Says it when a file asks for another number of flow steps, which a policy does not hold."""
    if steps == FLOW_STEPS:
        return ()
    return (f"{library} samples with {steps} flow steps; ask for as many when it acts",)
