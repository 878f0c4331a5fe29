"""Instructions of a data set: which are missing, and which are one in two spellings."""

from collections.abc import Collection, Iterator, Sequence

from pi0_jax.data.lerobot.findings import SPELLING, TASKS, Finding
from pi0_jax.data.lerobot.recording import Recording

_SHOWN = 5  # tasks in one line


def check_tasks(
    recordings: Sequence[Recording],
    instructions: Collection[str],
    wanted: Collection[str] | None = None,
) -> list[Finding]:
    """What is strange about the instructions.

    Args:
        recordings: the episodes.
        instructions: of all tasks that the folder lists.
        wanted: of the tasks to learn; None for all that there are.
    """
    shown = dict.fromkeys(prompt for one in recordings for prompt in set(one.prompts))
    found = [*_empty(recordings), *_alike(list(shown))]
    if wanted is not None:
        found += _missing(shown, instructions, wanted)
    return found


def plain(text: str) -> str:
    """An instruction without what people spell differently: capitals, underscores, full stops."""
    return " ".join(text.lower().replace("_", " ").replace(".", " ").split())


def _missing(
    shown: Collection[str], instructions: Collection[str], wanted: Collection[str]
) -> Iterator[Finding]:
    spelled = {plain(text): text for text in instructions}
    for text in wanted:
        if text in shown:
            continue
        near = spelled.get(plain(text))
        rest = "" if near is None else f"; {near!r} is nearly the same: rename it in meta/"
        yield Finding(TASKS, f"no episode shows the task {text!r}{rest}")


def _alike(shown: Sequence[str]) -> Iterator[Finding]:
    by_plain: dict[str, list[str]] = {}
    for text in shown:
        by_plain.setdefault(plain(text), []).append(text)
    for texts in by_plain.values():
        if len(texts) > 1:
            yield Finding(
                SPELLING,
                f"one task in {len(texts)} spellings: {', '.join(map(repr, texts[:_SHOWN]))}",
            )


def _empty(recordings: Sequence[Recording]) -> Iterator[Finding]:
    numbers = [str(one.number) for one in recordings if not all(map(str.strip, one.prompts))]
    if numbers:
        yield Finding(
            TASKS,
            f"{len(numbers)} episodes have no instruction, such as {numbers[0]}; a robot's file "
            "has one for them under fine_tuning.prompt",
        )
