"""Relatives of pi0 that act otherwise are refused by name; heads that no action needs are known.

Converting the weights alone would make another policy than the one that was given.
"""

from collections.abc import Iterable
from pathlib import Path

from pi0_jax.errors import InputError
from pi0_jax.json_file import read_object

RL_HEADS = {
    "value_head.": "estimates returns while RL trains (RLinf); no action depends on it",
    "noise_head.": "width of the noise while RL trains (RLinf); a policy that acts adds none",
}
"""Beginnings of keys that no forward pass of the policy reads, with the reason."""

_DSRL = "RLinf's DSRL, in which another network chooses the noise"
_CHANGES_ACTIONS = {
    "dsrl_action_noise_net.": _DSRL,
    "actor_image_encoder.": _DSRL,
    "actor_state_encoder.": _DSRL,
    "critic_image_encoder.": _DSRL,
    "critic_state_encoder.": _DSRL,
    "q_head.": _DSRL,
    "rlt_module.": "RLinf's RLT, in which a small policy acts on tokens of the large one",
    "pointnet.": "RLinf's point clouds, an input that pi0 lacks",
}
# Parts of the names of a policy that makes actions by flow matching.
_ACTION_PARTS = frozenset(("gemma_expert", "dit", "action_in_proj", "action_out_proj"))
_PALIGEMMA = frozenset(("vision_tower", "language_model"))
_FAST_TYPES = ("pi0_fast", "pi0fast", "pi0-fast")
_FAST = (
    "a pi0-FAST (or a plain PaliGemma), which has no action expert and writes actions as words; "
    "pi0_jax converts pi0 and pi0.5"
)


def refuse_keys(keys: Iterable[str], path: Path) -> None:
    """Checks the names of a PyTorch checkpoint's tensors.

    Raises:
        InputError: pi0-FAST, or parts beside the weights that change what the policy does.
    """
    parts: set[str] = set()
    for key in keys:
        parts |= {*key.split(".")}
        for prefix, why in _CHANGES_ACTIONS.items():
            if key.removeprefix("model.").startswith(prefix):
                raise InputError(
                    f"{path}: {key} is a part of {why}; without it this is another policy, so it "
                    "is not converted"
                )
    if parts >= _PALIGEMMA and not parts & _ACTION_PARTS:
        raise InputError(f"{path}: {_FAST}")


def refuse_tree(paths: Iterable[str], path: Path) -> None:
    """Checks the paths of an Orbax tree's leaves.

    Raises:
        InputError: pi0-FAST.
    """
    tops = {leaf.split("/")[0] for leaf in paths}
    if "PaliGemma" in tops and not any(top.startswith("action_") for top in tops):
        raise InputError(f"{path}: {_FAST}")


def refuse_config(folder: Path) -> None:
    """Checks the type that a config.json names.

    Raises:
        InputError: pi0-FAST, or a file that cannot be read.
    """
    path = folder / "config.json"
    values = read_object(path) if path.is_file() else {}
    kind = str(values.get("type") or values.get("model_type"))
    if kind.lower() in _FAST_TYPES:
        raise InputError(f"{folder}: config.json is that of {kind}: {_FAST}")


def rl_heads(keys: Iterable[str]) -> dict[str, str]:
    """Keys that only a training by RL reads, with the reason."""
    return {
        key: why
        for key in keys
        for prefix, why in RL_HEADS.items()
        if key.removeprefix("model.").startswith(prefix)
    }
