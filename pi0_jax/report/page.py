"""report.html: a run folder as one page that opens from disk, without network or library.

Everything except videos and pictures, which are relative links, is in the page itself. All text
from the run is escaped. Parts that the run lacks are left out, and the top of the page lists them.
"""

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from pi0_jax.io.atomic import write_text
from pi0_jax.io.metrics_writer import duration
from pi0_jax.report.bars import stacked_bar
from pi0_jax.report.cost import cost_table
from pi0_jax.report.curves import learning_curves, success_curves
from pi0_jax.report.held_out import error_table, held_out_outcome, predictions
from pi0_jax.report.machine import machine_table
from pi0_jax.report.run_data import RunData, method_name, outcome, read_run
from pi0_jax.report.styles import Style, method_styles
from pi0_jax.report.success import guidance_chart, paired_table, success_table
from pi0_jax.report.tasks import task_table
from pi0_jax.run.success import Row

_HERE = Path(__file__).parent
# Keys of metrics.jsonl that hold seconds, and the work that they measure.
_WORK = {"seconds_rollout": "rollouts", "seconds_train": "training", "seconds_eval": "evaluation"}
_WORK |= {"seconds_checkpoint": "checkpoints"}
# In the order of a run.
_PHASES = {"demonstrations": "Demonstrations", "sft": "Supervised training"}
_PHASES |= {"rl": "Reinforcement learning", "eval": "Evaluation"}


def write_report(run_dir: Path) -> Path:
    """Builds `run_dir`/report.html from the files of the run folder and returns its path.

    It reads config.json, metrics.jsonl, results.json, videos/*.mp4 with videos/index.json and
    frames/*.png with frames/index.json; each may be missing. An earlier report is replaced.

    Raises:
        InputError: the folder does not exist, or a file in it is not what its name says.
    """
    run = read_run(run_dir)
    styles = method_styles(run.methods)
    # The result comes first and the settings last, as a reader asks for them.
    sections = [
        _held_out(run),
        _predictions(run),
        _results(run.rows, styles),
        _tasks(run),
        _guidance(run, styles),
        _curves(run, styles),
        _cost(run.metrics),
        _time(run.metrics),
        _machine(run.metrics),
        _frames(run),
        _videos(run),
        _settings(run),
    ]
    page = Template((_HERE / "page.html").read_text()).substitute(
        name=escape(_name(run)),
        style=(_HERE / "page.css").read_text(),
        eyebrow=escape(_eyebrow(run)),
        outcome=_emphasised(held_out_outcome(run.held_out) if run.held_out else outcome(run.rows)),
        missing=_missing(run.missing),
        sections="\n".join(filter(None, sections)),
        footer=f"Written by pi0_jax from {escape(str(run_dir.resolve()))}",
    )
    path = run_dir / "report.html"
    write_text(path, page)
    return path


def _name(run: RunData) -> str:
    return str(run.config.get("name") or run.path.resolve().name)


def _eyebrow(run: RunData) -> str:
    """The line above the heading: phases of the run, its date, how long it worked."""
    phases = [*(line.get("phase") for line in run.metrics), *(row.phase for row in run.rows)]
    parts = [" → ".join(name for phase, name in _PHASES.items() if phase in phases)]
    if run.metrics and "time" in run.metrics[0]:
        date = datetime.fromtimestamp(run.metrics[0]["time"], UTC)
        parts.append(f"{date.day} {date:%B %Y}")
    if run.metrics and "elapsed" in run.metrics[-1]:
        parts.append(_worked(run.metrics[-1]["elapsed"]))
    return " · ".join(filter(None, parts))


def _worked(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _emphasised(sentences: str) -> str:
    """HTML of the outcome: rates in bold, intervals small, the second sentence on its own line."""
    # Escaped first, so that only these tags are HTML. \u202f is the space of `percent`.
    html = re.sub(r"(\d+\u202f%) (\[\d+, \d+\])", r"<b>\1</b> <small>\2</small>", escape(sentences))
    first, mark, second = html.partition(". For comparison")
    if not mark:
        return html
    return f'{first}.</p><p class="second">For comparison{second}'


def _missing(missing: Sequence[str]) -> str:
    if not missing:
        return ""
    return f'<p class="missing">Not there yet: {escape(", ".join(missing))}.</p>'


def _section(title: str, body: str, note: str = "") -> str:
    """A section of the page; `body` is HTML, title and note are text."""
    if not body:
        return ""
    intro = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{intro}{body}</section>"


def _held_out(run: RunData) -> str:
    """The error table of a fine-tuning."""
    note = (
        "Mean distance between the predicted and the recorded action at some steps of a chunk, on "
        "episodes that were not learnt, in the robot's units; in brackets before the first step."
    )
    body = error_table(run.held_out, run.predictions)
    return _section("Action error on held-out episodes", body, note)


def _predictions(run: RunData) -> str:
    """Pictures and curves of held-out episodes."""
    note = (
        "Grey: what was recorded. Blue: the chunks that the policy predicts, each from the picture "
        "and the state recorded at its start (the vertical lines); the horizontal axis is time"
    )
    note += " [s]." if run.predictions.get("control_hz") else " in steps."
    return _section("Predicted against recorded", predictions(run.predictions), note)


def _results(rows: Sequence[Row], styles: Mapping[str, Style]) -> str:
    tasks = list(dict.fromkeys(row.task for row in rows))
    what = f"all {len(tasks)} tasks together" if len(tasks) > 1 else "".join(tasks)
    note = (
        f"Share of episodes in which the task succeeded, {what}. Bars: 95\u202f% Wilson interval."
    )
    return _section("Success", success_table(rows, styles), note)


def _tasks(run: RunData) -> str:
    """The table by task; empty for one task, which the section above already shows."""
    if len({row.task for row in run.rows}) < 2:
        return ""
    note = "Share of successful episodes, in brackets the 95\u202f% Wilson interval."
    instructions = run.protocol.get("instructions", {})
    return _section("Success by task", task_table(run.rows, instructions), note)


def _guidance(run: RunData, styles: Mapping[str, Style]) -> str:
    """Success against the scale, and which states it wins and loses."""
    note = "Error bars: 95\u202f% Wilson intervals. Dashed: methods measured at one scale."
    if run.paired:
        note += (
            " Won and lost: initial states that only one of two scales solves, with the p value of "
            "an exact two-sided sign test, not corrected for the number of scales."
        )
    body = guidance_chart(run.rows, styles) + paired_table(run.paired)
    return _section("Guidance", body, note)


def _curves(run: RunData, styles: Mapping[str, Style]) -> str:
    """Success of all methods on one axis, then what explains it."""
    success = success_curves(run.metrics, styles)
    body, note = "", ""
    if success:
        body = f'<figure class="card full"><h3>Rollout success</h3>{success}</figure>'
        note = (
            "Success of each iteration's rollouts, over the number of rollouts that its policy had "
            "learned from; the first point is the policy that the method started from. A method "
            "looks the same in every chart; several quantities of one differ by their dashes."
        )
    cards = "".join(
        f'<figure class="card"><h3>{escape(title)}</h3>{svg}</figure>'
        for title, svg in learning_curves(run.metrics, styles)
    )
    body += f'<div class="cards">{cards}</div>' if cards else ""
    return _section("Learning curves", body, note)


def _cost(lines: Sequence[Mapping[str, Any]]) -> str:
    note = (
        "Of each method alone: what the base policy cost comes on top, and so does evaluation. "
        "Minutes are those of this run's machine; a question mark is what the run did not store."
    )
    return _section("Cost", cost_table(lines), note)


def _time(lines: Sequence[Mapping[str, Any]]) -> str:
    """A stacked bar of seconds for each phase and method; the longest has the full width."""
    sums: dict[str, dict[str, float]] = {}
    for line in lines:
        method = f", {method_name(str(line['method']))}" if line.get("method") else ""
        # A checkpoint is part of the training that it stores.
        phase = str(line.get("phase")).replace("checkpoint", "rl")
        label = f"{_PHASES.get(phase, phase)}{method}"
        for key in _WORK:
            if isinstance(line.get(key), int | float):
                of_label = sums.setdefault(label, dict.fromkeys(_WORK, 0.0))
                of_label[key] += line[key]
    longest = max((sum(parts.values()) for parts in sums.values()), default=0.0)
    bars = []
    for label, parts in sums.items():
        words = [(f"{_WORK[key]} {duration(value)}", value) for key, value in parts.items()]
        legend = " ".join(
            f'<span><i class="swatch s{index}"></i>{text}</span>&ensp;'
            for index, (text, value) in enumerate(words)
            if value
        )
        bars.append(f"<span>{escape(label)}</span>{stacked_bar(words, longest)}")
        bars.append(f"<small>{legend}</small>")
    return _section("Time", f'<div class="time">{"".join(bars)}</div>' if bars else "")


def _machine(lines: Sequence[Mapping[str, Any]]) -> str:
    note = (
        "Of rollouts: how long the policy took while simulators ran, how many observations it "
        "got at a time, and the share of rows that were padding. Memory is the highest so far."
    )
    return _section("Use of the machine", machine_table(lines), note)


def _frames(run: RunData) -> str:
    """Rows of pictures, those of one initial state below each other."""
    body = ""
    for title, entries in _by_state(run.frames):
        body += f'<h3>{title}</h3><div class="strip">{"".join(map(_frame, entries))}</div>'
    return _section("Rollout, frame by frame", body)


def _by_state(entries: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """(title as HTML, entries) of each initial state, in order of appearance."""
    states: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        # What was made elsewhere need not name its state: then its title is its own.
        key = entry.get("state") or entry.get("title") or entry["file"]
        states.setdefault(str(key), []).append(entry)
    return [(_words(found[0], "title"), found) for found in states.values()]


def _acting(entry: Mapping[str, Any]) -> str:
    """What acts in a video, as HTML: "RIPT, guidance 3 from base"."""
    method = str(entry.get("method") or "")
    words = (method and escape(method_name(method)), _words(entry, "guidance"))
    return ", ".join(filter(None, words))


def _frame(entry: Mapping[str, Any]) -> str:
    caption = ": ".join(filter(None, (_acting(entry), _words(entry, "outcome"))))
    source = f"frames/{quote(str(entry['file']))}"
    return (
        f'<figure><img src="{source}" alt="{caption}" loading="lazy">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _videos(run: RunData) -> str:
    """The same initial state under everything that acted in it, side by side."""
    body = "".join(
        f'<div class="state"><h3>{title}</h3>'
        f'<div class="videos">{"".join(map(_video, entries))}</div></div>'
        for title, entries in _by_state(run.videos)
    )
    note = "Each row is one initial state with the same noise, replayed from the recorded actions."
    return _section("Videos", f'<div class="states">{body}</div>' if body else "", note)


def _video(entry: Mapping[str, Any]) -> str:
    result = str(entry.get("outcome") or "")
    # Only known outcomes become class names; any other text would be the run's own.
    kind = result if result in ("success", "failure") else ""
    badge = f'<span class="badge {kind}">{escape(result)}</span>' if result else ""
    # The fragment makes browsers show a picture of the rollout instead of an empty box.
    source = f"videos/{quote(str(entry['file']))}#t=0.1"
    return (
        f'<figure><video src="{source}" controls muted loop playsinline preload="metadata">'
        f"</video><figcaption>{badge}<strong>{_acting(entry)}</strong>"
        f"{_words(entry, 'caption')}</figcaption></figure>"
    )


def _words(entry: Mapping[str, Any], key: str) -> str:
    return escape(str(entry.get(key) or ""))


def _settings(run: RunData) -> str:
    """The command, and protocol and config as tables that open on a click."""
    # A run's config.json has the command; other results may have it in their protocol.
    command = run.config.get("command") or run.protocol.get("command")
    if isinstance(command, list):  # sys.argv
        command = shlex.join(["python", *map(str, command)])
    body = f"<h3>Made by</h3><pre>{escape(str(command))}</pre><br>" if command else ""
    for title, values in (("Protocol", run.protocol), ("Config", run.config)):
        pairs = [pair for pair in _flat(values) if pair[0] != "command"]
        lines = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in pairs)
        if pairs:
            body += (
                f"<details><summary>{title} <small>{len(pairs)} settings</small></summary>"
                f'<table class="key-values">{lines}</table></details>'
            )
    return _section("How it was made", body)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Nested settings as ("a.b", JSON text) pairs."""
    for key, value in values.items():
        # An empty section is a leaf, so that it is shown too.
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{prefix}{key}", text
