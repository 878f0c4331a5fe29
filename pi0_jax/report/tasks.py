"""Success by task as an HTML table: a line per task, a column per method and guidance scale."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby

from pi0_jax.report.charts import percent
from pi0_jax.report.run_data import method_name
from pi0_jax.run.success import Row, by_setting, guidance_text, pool_tasks


def task_table(rows: Sequence[Row], instructions: Mapping[str, str]) -> str:
    """Rates with their intervals, shaded by rate; the last line adds up all tasks.

    Args:
        rows: success rates of any methods and scales.
        instructions: task name -> language instruction, for tasks where it is known.
    """
    # A column per (phase, method, guidance).
    columns = by_setting(rows)
    tasks = list(dict.fromkeys(row.task for row in rows))
    of_task = [{row.task: row for row in column} for column in columns]
    lines = [
        f"<tr>{_task(task, instructions.get(task, ''))}"
        f"{''.join(_cell(column.get(task)) for column in of_task)}</tr>"
        for task in tasks
    ]
    # pool_tasks has the settings in the same order as the columns.
    sums = "".join(map(_cell, pool_tasks(rows)))
    return (
        f'<div class="scroll"><table class="tasks"><thead>{_head(columns)}</thead>'
        f"<tbody>{''.join(lines)}</tbody>"
        f'<tfoot><tr><th scope="row">all {len(tasks)} tasks</th>{sums}</tr></tfoot></table></div>'
    )


def _head(columns: Sequence[Sequence[Row]]) -> str:
    """Two lines: the methods, and their guidance scales."""
    methods = [
        (method_name(method), len(list(group)))
        for (_, method), group in groupby(
            columns, key=lambda column: (column[0].phase, column[0].method)
        )
    ]
    names = "".join(f'<th colspan="{span}">{escape(name)}</th>' for name, span in methods)
    scales = "".join(f"<th>{_scale(column[0])}</th>" for column in columns)
    return f"<tr><th></th>{names}</tr><tr><th></th>{scales}</tr>"


def _scale(row: Row) -> str:
    scale = guidance_text(row.guidance, row.reference)
    return escape(f"w = {scale}") if scale else ""


def _task(name: str, instruction: str) -> str:
    """The head of a line: the instruction, because it says more, with the name below it."""
    below = f"<small>{escape(name)}</small>" if instruction else ""
    return f'<th scope="row">{escape(instruction or name)}{below}</th>'


def _cell(row: Row | None) -> str:
    # A method need not have been evaluated on every task.
    if row is None or not row.episodes:
        return "<td>?</td>"
    low, high = 100 * row.wilson_low, 100 * row.wilson_high
    title = f"{row.task}: {row.successes}/{row.episodes}"
    return (
        f'<td style="--rate:{row.rate:.2f}" title="{escape(title, quote=True)}">'
        f"{percent(row.rate)}<small>[{low:.0f}, {high:.0f}]</small></td>"
    )
