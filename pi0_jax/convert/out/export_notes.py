"""What an export to another library leaves to the user, because the layout cannot carry it."""

from pathlib import Path

from pi0_jax.convert.keys.architecture import published_sizes
from pi0_jax.data.action_space import NONE, mask_text
from pi0_jax.data.branches import EMBEDDING, INDICATOR, PROMPT_DROPOUT
from pi0_jax.policy.reference_files import REFERENCE
from pi0_jax.policy.spec import PolicySpec

# RLinf runs openpi's model with configs of the same names.
_OPENPIS = ("openpi", "rlinf")


def notes(family: str, spec: PolicySpec) -> list[str]:
    """What the layout cannot carry, one text each.

    Args:
        family: name of the layout.
        spec: the policy to export.
    """
    found = [
        *_guidance(spec),
        *_actions(family, spec),
        *_prompt(family, spec),
        *_executed(family, spec),
        *(_settings_of_openpi(spec) if family in _OPENPIS else []),
    ]
    if family == "transformers" and spec.quantile:
        found.append(
            "normalised by quantiles: transformers does not normalise; use q01 and q99 of "
            "norm_stats.json, not mean and std"
        )
    if family != "transformers" and not published_sizes(spec.model):
        found.append(f"{family} builds gemma_2b only; it will not load these sizes")
    return found


def reference_note(folder: Path) -> list[str]:
    """Says that guidance from a base is lost, if the policy folder carries one."""
    if not (folder / REFERENCE).exists():
        return []
    return [
        f"the folder's {REFERENCE}/ is left out: the exported policy acts as ours does at guidance "
        "1; guidance away from the base cannot be carried"
    ]


def _guidance(spec: PolicySpec) -> list[str]:
    # A condition by embedding has a note of its own (`fold.py`).
    if spec.branch_mode == EMBEDDING:
        return []
    if spec.branch_mode == PROMPT_DROPOUT:
        return ["the exported policy acts as ours does at guidance 1; guidance cannot be carried"]
    return [
        f'the condition is in the prompt: write ". {INDICATOR}" behind every instruction, or the '
        "exported policy is the unconditional one; guidance above 1 cannot be carried"
    ]


def _actions(family: str, spec: PolicySpec) -> list[str]:
    found, space = [], spec.action_space
    if any(space.delta_mask):
        mask = mask_text(space.delta_mask)
        openpi = (
            f"use a config with DeltaActions and AbsoluteActions of the mask {mask} (LIBERO: "
            "extra_delta_transform=True)"
        )
        others = {
            "lerobot": f"actions are relative by the mask {mask}: lerobot 0.6 or newer loads the "
            "steps for that",
            "transformers": f"actions are relative to the state by the mask {mask}; transformers "
            "does not add the raw state: do so yourself",
        }
        found.append(others.get(family, openpi))
    if space.adapt_to_pi != NONE:
        use = "use a config with adapt_to_pi=True" if family in _OPENPIS else "do so yourself"
        found.append(
            f"states and actions of ALOHA are converted as {space.adapt_to_pi} does, and the "
            f"exported files do not say it: {use}"
        )
        if family in _OPENPIS and space.adapt_to_pi != "openpi":
            found.append("openpi's limits of the grippers are others than lerobot's")
    return found


def _prompt(family: str, spec: PolicySpec) -> list[str]:
    found = []
    if spec.tokenizer == "bytes":
        found.append(
            f"prompts are tokenised as bytes, {family} reads them with PaliGemma's tokenizer: the "
            "exported policy understands no instruction"
        )
    if spec.padded_state_text:
        found.append(
            "the state's text is zero-padded, as in lerobot 0.4; "
            + (
                "lerobot from 0.5 on does not pad it"
                if family == "lerobot"
                else f"{family} does not pad it"
            )
        )
    return found


def _executed(family: str, spec: PolicySpec) -> list[str]:
    # lerobot has `n_action_steps`; with openpi and RLinf it is the client's choice.
    if family == "lerobot":
        return []
    steps = spec.execute_steps
    return [
        f"{family}'s files do not say that {steps} of {spec.model.action_horizon} actions of a "
        f"chunk are executed: say so where the policy runs; back to pi0_jax with --execute-steps "
        f"{steps}"
    ]


def _settings_of_openpi(spec: PolicySpec) -> list[str]:
    """What stands in openpi's training config and not in files."""
    if spec.model.pi05:
        found = [
            f"use a config with Pi0Config(pi05=True, action_horizon={spec.model.action_horizon}, "
            f"discrete_state_input={spec.state_in_prompt})"
        ]
        return found if spec.quantile else [*found, "and without use_quantile_norm"]
    return ["normalised by quantiles: use a config with use_quantile_norm"] * spec.quantile
