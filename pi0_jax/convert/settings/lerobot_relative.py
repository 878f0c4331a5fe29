"""Relative actions of lerobot 0.5.1 and later: which actions, by the names of the joints."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Relative:
    """Settings of lerobot's `RelativeActionsProcessorStep`.

    Attributes:
        enabled: whether actions are relative to the state.
        exclude: words; an action whose name holds one of them stays absolute.
        names: of the actions, in order; None if unknown, and then no action is excluded.
    """

    enabled: bool = False
    exclude: tuple[str, ...] = ()
    names: tuple[str, ...] | None = None


def mask_of(relative: Relative, actions: int) -> tuple[bool, ...]:
    """Which of so many actions are relative; as lerobot, those without a name are.

    >>> mask_of(Relative(True, ("gripper",), ("x", "Gripper.pos")), 3)
    (True, False, True)
    """
    words = [word.lower() for word in relative.exclude if word]
    names = [name.lower() for name in relative.names or ()][:actions]
    named = [not any(word in name for word in words) for name in names]
    return (*named, *[True] * (actions - len(named)))


def settings_for(mask: tuple[bool, ...], names: tuple[str, ...]) -> Relative:
    """The settings with which lerobot has this mask.

    The names of the robot's actions are kept where a word for the absolute ones can be chosen;
    else the actions are called after what they are.

    Args:
        mask: one entry per action, True for a relative one.
        names: of the actions.
    """
    if not any(mask):
        return Relative(names=names)
    absolute = tuple(name for name, relative in zip(names, mask, strict=True) if not relative)
    chosen = Relative(enabled=True, exclude=absolute, names=names)
    if mask_of(chosen, len(mask)) == mask:
        return chosen
    # A word such as "wrist" excludes "wrist_2" too.
    spelled = tuple(
        f"relative_{i}" if relative else f"absolute_{i}" for i, relative in enumerate(mask)
    )
    return Relative(enabled=True, exclude=("absolute",), names=spelled)
