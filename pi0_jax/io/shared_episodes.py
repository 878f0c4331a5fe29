"""Episodes that one host has made or read, and all need; where there is one, what it is given."""

from collections.abc import Callable, Sequence

from pi0_jax.episode import Episode
from pi0_jax.hosts import talk
from pi0_jax.io.episodes import episodes_from_bytes, episodes_to_bytes


def of_all_hosts(own: Sequence[Episode], each: int = 1) -> list[Episode]:
    """The episodes that all hosts made of their shares, in the order of the whole.

    Args:
        own: what this host made, in the order of its share.
        each: episodes per part of the share; those of a group stay together.
    """
    if talk.count() == 1:
        return list(own)
    parts = [episodes_from_bytes(data) for data in talk.gather_bytes(episodes_to_bytes(own))]
    groups = [[part[i : i + each] for i in range(0, len(part), each)] for part in parts]
    return [episode for group in talk.in_order(groups) for episode in group]


def of_first_host(load: Callable[[], Sequence[Episode]]) -> list[Episode]:
    """The episodes that host 0 loads: it alone reads the run folder."""
    if talk.count() == 1:
        return list(load())
    return episodes_from_bytes(talk.first_bytes(lambda: episodes_to_bytes(load())))
