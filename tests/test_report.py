"""report.html from whole, partial and hostile run folders."""

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pi0_jax.errors import InputError
from pi0_jax.report.page import write_report
from pi0_jax.report.run_data import at_one_scale, outcome
from pi0_jax.run.paired import Paired
from pi0_jax.run.success import Row

SCRIPT = "<script>alert(1)</script>"
VOID = {"meta", "img", "br", "link", "hr"}


class Page(HTMLParser):
    """Checks that tags close in order; collects links and tags."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]):
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]):
        self.tags.append(tag)

    def handle_endtag(self, tag: str):
        assert self.open.pop() == tag


def row(method: str, successes: int, guidance: float | None = None, task: str = "lift") -> Row:
    return Row("sft" if method == "base" else "rl", method, task, guidance, successes, 200)


ROWS = [row("base", 66), row("filtered_bc", 140)]
ROWS += [row("ript", successes, w) for w, successes in ((0, 120), (1, 136), (2, 150))]


def write_run(run: Path, rows: list[Row], **line: Any) -> Path:
    """A small run folder with every part."""
    for folder in ("videos", "frames"):
        (run / folder).mkdir(parents=True)
    (run / "videos" / "a b.mp4").touch()
    (run / "frames" / "0.png").touch()
    video = {"file": "a b.mp4", "title": "state 7", "phase": "rl", "method": "ript"}
    index = [video | {"outcome": "success"}, video | {"file": "../../secret.mp4"}]
    (run / "videos" / "index.json").write_text(json.dumps(index))
    (run / "config.json").write_text(json.dumps({"command": "python train.py", "rl": {"k": 8}}))
    results = {"protocol": {"max_steps": 48}, "rows": [one.as_dict() for one in rows]}
    (run / "results.json").write_text(json.dumps(results))
    lines = [
        {"step": s, "phase": "rl", "method": "ript", "iteration": s, "loss_cond": 1 / (s + 1)}
        | {"rollout_success": None if s == 2 else 0.1 * s, "seconds_rollout": 30.0, **line}
        | {"time": 1.79e9 + s, "elapsed": 60.0 * s}
        for s in range(5)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    return run


def test_whole_run(tmp_path: Path):
    html = write_report(write_run(tmp_path / "demo", ROWS)).read_text()
    page = Page(html)
    assert page.links == ["frames/0.png", "videos/a%20b.mp4#t=0.1"]
    for part in ("Success", "Guidance", "Learning curves", "Time", "Videos", "How it was made"):
        assert f"<h2>{part}</h2>" in html
    for text in ("python train.py", "rl.k", "max_steps", "badge success", "4 min", "136/200"):
        assert text in html
    assert "Not there yet" not in html
    assert "nan" not in html.split("</style>")[1]


def test_scales_are_compared_state_by_state(tmp_path: Path):
    run = write_run(tmp_path / "demo", ROWS)
    results = json.loads((run / "results.json").read_text())
    results["paired"] = [Paired("rl", "ript", 2.0, 1.0, 19, 6, SCRIPT).as_dict()]
    (run / "results.json").write_text(json.dumps(results))
    html = write_report(run).read_text()
    Page(html)
    for text in ("19 : 6", "0.015", "w = 2 from &lt;script&gt;", "exact two-sided sign test"):
        assert text in html
    assert SCRIPT not in html


def test_opens_without_network(tmp_path: Path):
    html = write_report(write_run(tmp_path / "demo", ROWS)).read_text()
    assert "http" not in html
    assert "<script" not in html
    assert "url(" not in html


@pytest.mark.parametrize("part", ["config.json", "metrics.jsonl", "results.json", "videos"])
def test_one_part_missing(tmp_path: Path, part: str):
    run = write_run(tmp_path / "demo", ROWS)
    (run / part).rename(tmp_path / part)
    html = write_report(run).read_text()
    Page(html)
    assert "Not there yet" in html
    assert part in html


def test_empty_folder(tmp_path: Path):
    html = write_report(tmp_path).read_text()
    Page(html)
    assert "No evaluation has finished yet." in html


def test_a_list_of_videos_that_is_none(tmp_path: Path):
    run = write_run(tmp_path / "demo", ROWS)
    (run / "videos" / "index.json").write_text('[1, null, {"file": ["a b.mp4"]}]')
    Page(write_report(run).read_text())
    (run / "videos" / "index.json").unlink()
    os.mkfifo(run / "videos" / "index.json")
    with pytest.raises(InputError, match=r"index\.json: expected a plain file, got a pipe"):
        write_report(run)


def test_interrupted_line_and_empty_rows(tmp_path: Path):
    run = write_run(tmp_path / "demo", [Row("eval", "policy", "lift", None, 0, 0)])
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "ph')
    Page(write_report(run).read_text())


def test_everything_is_escaped(tmp_path: Path):
    run = write_run(tmp_path / "demo", [row(SCRIPT, 5, w, SCRIPT) for w in (1, 2)], method=SCRIPT)
    (run / "config.json").write_text(
        json.dumps({"name": SCRIPT, "command": SCRIPT, SCRIPT: SCRIPT})
    )
    index = [
        {"file": "a b.mp4", "title": SCRIPT, "caption": SCRIPT, "outcome": SCRIPT, "method": SCRIPT}
    ]
    (run / "videos" / "index.json").write_text(json.dumps(index))
    html = write_report(run).read_text()
    assert "script" not in Page(html).tags
    assert "&lt;script&gt;" in html


def test_several_tasks_are_pooled_and_kept(tmp_path: Path):
    rows = [row("ript", 100, 1, "a"), row("ript", 50, 1, "b")]
    html = write_report(write_run(tmp_path / "demo", rows)).read_text()
    Page(html)
    assert "150/400" in html
    assert "<h2>Success by task</h2>" in html
    html = write_report(write_run(tmp_path / "one task", rows[:1])).read_text()
    assert "<h2>Success by task</h2>" not in html


def test_command_as_argv(tmp_path: Path):
    run = write_run(tmp_path / "demo", ROWS)
    (run / "config.json").write_text(json.dumps({"command": ["train.py", "--workdir", "my run"]}))
    assert "python train.py --workdir &#x27;my run&#x27;" in write_report(run).read_text()


def test_bad_input_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="run folder"):
        write_report(tmp_path / "nowhere")
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(InputError, match=r"results\.json"):
        write_report(tmp_path)


def test_outcome_compares_at_guidance_one():
    text = outcome(ROWS).replace("\u202f", " ")
    assert text == (
        "RIPT lifted success from 33 % [27, 40] to 68 % [61, 74] on 200 initial states, "
        "at guidance 1. For comparison: filtered BC 70 % [63, 76]."
    )
    assert [one.guidance for one in at_one_scale(ROWS)] == [None, None, 1]


def test_outcome_claims_nothing_that_overlaps():
    assert "intervals overlap" in outcome([row("base", 66), row("ript", 70)])
    assert "lowered" in outcome([row("base", 140), row("ript", 70)])


def test_outcome_of_an_evaluation_alone():
    rows = [Row("eval", "policy", "lift", 1.0, 41, 50)]
    text = outcome(rows).replace("\u202f", " ")
    assert text == "Policy succeeds in 82 % [69, 90] of 50 episodes of lift, at guidance 1."


def test_outcome_names_the_reference():
    """Without scale 1, of several references the first that was measured."""
    rows = [Row("eval", "policy", "lift", 1.5, 10, 50, "unconditional")]
    rows.append(Row("eval", "policy", "lift", 1.5, 40, 50, "base"))
    assert outcome(rows).endswith("of 50 episodes of lift, at guidance 1.5 from unconditional.")
    assert outcome(rows[1:]).endswith("at guidance 1.5 from base.")


def test_a_state_is_shown_side_by_side(tmp_path: Path):
    run = write_run(tmp_path / "demo", ROWS)
    entries = []
    for state in ("lift 7", "lift 8"):
        for method, guidance in (("base", ""), ("ript", ""), ("ript", "guidance 3 from base")):
            file = f"{method}{guidance}_{state}.mp4"
            (run / "videos" / file).touch()
            entries.append({"file": file, "state": state, "title": f"lift it, {state}"})
            entries[-1] |= {"method": method, "guidance": guidance, "outcome": "success"}
    (run / "videos" / "index.json").write_text(json.dumps(entries))
    html = write_report(run).read_text()
    Page(html)
    first, second = html.split('<div class="state">')[1:]
    assert "<h3>lift it, lift 7</h3>" in first and "<h3>lift it, lift 8</h3>" in second
    for block in (first, second):
        assert re.findall(r"<strong>([^<]*)</strong>", block) == [
            "base", "RIPT", "RIPT, guidance 3 from base",
        ]  # fmt: skip


def test_the_cost_is_in_the_page(tmp_path: Path):
    run = write_run(tmp_path / "demo", ROWS, rollouts=64, updates=20, seconds_train=6.0)
    html = write_report(run).read_text()
    Page(html)
    assert "<h2>Cost</h2>" in html and "<h3>Rollout success</h3>" in html
    line = html.split("<tbody><tr><td>RIPT</td>")[1].split("</tr>")[0]
    assert re.findall(r">([^<]+)</td>", line) == ["320", "100", "2.5", "0.5", "3"]
