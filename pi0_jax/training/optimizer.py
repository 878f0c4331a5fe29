"""Schedule, freezing and learning rates by path, and the optax chain."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import optax

from pi0_jax.errors import InputError
from pi0_jax.ranges import check_ranges

Params = dict[str, jax.Array]
"""Flat parameters: slash-joined path -> leaf."""

Rules = tuple[tuple[str, float], ...]
"""(path regex, learning-rate multiplier) pairs; the first that matches a whole path decides."""

Row = tuple[str, int]
"""(path, index along axis 0): one row of a leaf."""

PRESETS: dict[str, Rules] = {
    "full": (),
    # In the language model, expert 1 has the suffix `_1`; the image tower has similar names.
    "expert_only": ((r"PaliGemma/llm/.*_1/.*", 1.0), (r"PaliGemma/.*", 0.0)),
    # Adapters of both experts, and everything that pi0 adds to PaliGemma.
    "lora": ((r"lora/.*", 1.0), (r"PaliGemma/.*", 0.0)),
}


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with warm-up and cosine decay.

    Attributes:
        learning_rate: peak value of the schedule.
        warmup_steps: optimizer steps of linear warm-up from 0 to the peak.
        final_fraction: fraction of the peak at which the cosine ends.
        b1: decay of the first moment.
        b2: decay of the second moment.
        weight_decay: decoupled weight decay of trained leaves.
        clip_norm: largest global norm of the gradient; a longer one is scaled down to it.
        rules: (path regex, learning-rate multiplier) pairs; the first that matches a whole path
            decides, and multiplier 0 freezes. A path that none matches has multiplier 1.
        preset: name in `PRESETS`, whose rules follow after `rules`.
        ema_decay: decay per step of the moving average of trained leaves, which is then the policy;
            0 keeps no average.
    """

    learning_rate: Annotated[float, "[0, 1000]"]
    warmup_steps: Annotated[int, "[0, 1e9]"]
    final_fraction: Annotated[float, "[0, 1]"] = 0.1
    b1: Annotated[float, "[0, 1)"] = 0.9
    b2: Annotated[float, "[0, 1)"] = 0.95
    weight_decay: Annotated[float, "[0, 1e3]"] = 1e-10
    clip_norm: Annotated[float, "(0, 1e6]"] = 1.0
    rules: Rules = ()
    preset: str = "full"
    ema_decay: Annotated[float, "[0, 1)"] = 0.0

    def __post_init__(self) -> None:
        """Checks names and ranges.

        Raises:
            InputError: an unknown preset, or a decay outside [0, 1).
        """
        check_ranges("optimizer", self)
        for rule in self.rules:
            regex, factor = _parts(rule)
            if not isinstance(factor, int | float) or not 0 <= factor < float("inf"):
                raise InputError(
                    f"optimizer.rules: {regex!r} must have a finite multiplier from 0, got "
                    f"{factor!r}"
                )
            try:
                re.compile(regex)
            except re.error as error:
                raise InputError(f"optimizer rule {regex!r} is no regex: {error}") from error
        if self.preset not in PRESETS:
            raise InputError(f"preset must be one of {sorted(PRESETS)}, got {self.preset!r}")

    @property
    def all_rules(self) -> Rules:
        """The rules in the order in which they decide."""
        return (*self.rules, *PRESETS[self.preset])


def _parts(rule: object) -> tuple[str, object]:
    """Regex and multiplier of a rule.

    Raises:
        InputError: it is no such pair.
    """
    if isinstance(rule, tuple) and len(rule) == 2 and isinstance(rule[0], str):
        return rule[0], rule[1]
    raise InputError(
        f"optimizer.rules must be pairs such as (('cond_embed', 20.0),), and {rule!r} is none"
    )


def multiplier(path: str, rules: Rules) -> float:
    """The learning-rate multiplier of one parameter; 0 means frozen."""
    return next((factor for regex, factor in rules if re.fullmatch(regex, path)), 1.0)


def check_rules(paths: list[str], rules: Rules) -> None:
    """Checks that every rule matches a path, and that something is trained.

    Raises:
        InputError: a rule that matches nothing (a misspelt path), or everything is frozen.
    """
    for regex, _ in rules:
        if not any(re.fullmatch(regex, path) for path in paths):
            raise InputError(f"optimizer rule {regex!r} matches no parameter, e.g. {paths[0]!r}")
    if not any(multiplier(path, rules) for path in paths):
        raise InputError("every parameter is frozen: nothing to train")


def learning_rate(config: OptimizerConfig, total_steps: int) -> optax.Schedule:
    """Step -> learning rate: linear warm-up, then cosine to the final fraction of the peak."""
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=config.warmup_steps,
        # optax counts the warm-up in, and rejects a cosine of 0 steps.
        decay_steps=max(total_steps, config.warmup_steps + 1),
        end_value=config.learning_rate * config.final_fraction,
    )


def make_optimizer(
    config: OptimizerConfig, total_steps: int, apart: Row | None = None
) -> optax.GradientTransformation:
    """Clip by global norm, AdamW, then the multiplier of each path. Acts on flat parameters.

    Args:
        config: settings of the optimizer.
        total_steps: length of the learning-rate schedule, in optimizer steps.
        apart: a row that is clipped by its own norm, and has no part in that of all others.
    """
    return optax.chain(
        # Over all trained leaves together, so the direction of the gradient is kept.
        _clip(config.clip_norm, apart),
        optax.adamw(
            learning_rate(config, total_steps),
            b1=config.b1,
            b2=config.b2,
            weight_decay=config.weight_decay,
        ),
        # Last: Adam divides by the gradient's size, so a factor before it would have no effect.
        _scale_by_path(config.all_rules),
    )


def _clip(norm: float, apart: Row | None) -> optax.GradientTransformation:
    transform = optax.clip_by_global_norm(norm)
    if apart is None:
        return transform
    path, row = apart

    def clip(updates: Any) -> Any:
        """Clips leaves by their common norm."""
        return transform.update(updates, optax.EmptyState())[0]

    def clip_apart(updates: Any, params: Any) -> Params:
        """The row, and all the rest: each is clipped by its own norm."""
        del params
        if path not in updates:  # it is frozen
            return clip(updates)
        # With zeros in its place, the norm of the rest is that of a loss that has no such row.
        rest = clip(updates | {path: updates[path].at[row].set(0.0)})
        alone = clip({path: updates[path][row]})
        return rest | {path: rest[path].at[row].set(alone[path])}

    return optax.stateless(clip_apart)


def _scale_by_path(rules: Rules) -> optax.GradientTransformation:
    def scale(updates: Any, params: Any) -> Params:
        """Each update times the multiplier of its path."""
        del params
        return {path: update * multiplier(path, rules) for path, update in updates.items()}

    return optax.stateless(scale)
