"""A trained policy without its condition embedding, for programs that know none.

The condition is one constant that is added to every action token, which is what a bias is: with the
positive row of `cond_embed` [2, w] added to the bias of `action_in_proj` [w], any pi0 acts as ours
does at guidance 1.
"""

import numpy as np

from pi0_jax.convert.keys.keymap import Leaf
from pi0_jax.convert.sources.source import Source
from pi0_jax.model.pi0 import POSITIVE

_BIAS = "action_in_proj/bias"


class Folded:
    """`Source` of the same weights with the condition in the bias.

    Attributes:
        info: that of the source.
        folder: that of the source.
        cond_embed: None.
    """

    cond_embed: np.ndarray | None = None

    def __init__(self, source: Source):
        """Wraps a source; reads nothing."""
        self.info, self.folder = source.info, source.folder
        self._source = source
        self._condition = _trained(source)

    def read(self, leaf: Leaf, layer: int | None) -> np.ndarray:
        """One layer of a leaf, as the source has it, but for one bias."""
        values = self._source.read(leaf, layer)
        if self._condition is None or leaf.path != _BIAS:
            return values
        return values + self._condition  # [w]


def fold_note(source: Source) -> list[str]:
    """Says that the exported policy has the condition in its bias, if it was ever trained."""
    if _trained(source) is None:
        return []
    return [
        "the condition is_positive is folded into action_in_proj's bias: the exported policy acts "
        "as ours does at guidance 1; a larger guidance cannot be exported"
    ]


def _trained(source: Source) -> np.ndarray | None:
    """float[w]: the positive row; None if there is no condition, or it was never trained."""
    # The embedding starts at zero, and only training with outcomes changes it.
    if source.cond_embed is None or not np.any(source.cond_embed):
        return None
    return source.cond_embed[POSITIVE]
