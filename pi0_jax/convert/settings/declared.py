"""What the settings beside a PyTorch checkpoint's tensors declare, whatever library wrote them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pi0_jax.convert.keys.heads import UNKNOWN, DeclaredHeads
from pi0_jax.data.action_space import ActionSpace
from pi0_jax.data.normalize import Stats


@dataclass(frozen=True)
class StoredStats:
    """Statistics in files of their own beside the weights: lerobot from 0.4 on, transformers.

    Attributes:
        where: the file that names them, for messages.
        state: of the raw state.
        actions: of the actions, after the delta if there is one.
    """

    where: str
    state: Stats
    actions: Stats


@dataclass(frozen=True)
class TorchConfig:
    """What the settings declare; None or empty where they say nothing.

    Attributes:
        heads: numbers of heads.
        depths: axis name ("depth", "vision_depth") to number of layers.
        sizes: key in the file to a size of the architecture and its declared value
            (`torch_config.check_model`).
        pi05: whether the model is a pi0.5.
        action_horizon: actions per chunk.
        prompt_length: prompt tokens, padding included.
        execute_steps: actions of a chunk that are executed before the policy is called again.
        cameras: names in order.
        state_dim: width of the raw state.
        action_dim: width of the raw action.
        normalization: lerobot's mode for "STATE" and "ACTION".
        statistics: statistics that the settings name.
        state_in_prompt: whether a pi0.5 reads its state as text in the prompt.
        padded_state_text: whether that text has zeros after the robot's own values, up to the
            model's width.
        action_space: relative actions and ALOHA's convention; None where no file can say.
        is_transformers: whether transformers wrote it.
        notes: what the user should know, one text each.
    """

    heads: DeclaredHeads = UNKNOWN
    depths: dict[str, int] = field(default_factory=dict)
    sizes: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    pi05: bool | None = None
    action_horizon: int | None = None
    prompt_length: int | None = None
    execute_steps: int | None = None
    cameras: tuple[str, ...] = ()
    state_dim: int | None = None
    action_dim: int | None = None
    normalization: Mapping[str, str] = field(default_factory=dict)
    statistics: StoredStats | None = None
    state_in_prompt: bool | None = None
    padded_state_text: bool | None = None
    action_space: ActionSpace | None = None
    is_transformers: bool = False
    notes: tuple[str, ...] = ()
