"""One folder, one run: nothing is overwritten, nothing that is known is lost."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import pytest
from tiny import episode

from pi0_jax.env.suite import make_suite
from pi0_jax.errors import InputError
from pi0_jax.run.folder import RESULTS, RunFolder, protocol, success_text
from pi0_jax.run.paired import Paired
from pi0_jax.run.success import Row
from pi0_jax.versions import versions

CONFIG = {"seed": 0, "rl": {"rules": (("a", 0.0),)}, "eval": {"guidance": (1.0, 2.0)}}
ROW = Row("sft", "base", "lift", 1.0, 3, 4)


def test_a_new_folder(tmp_path):
    run = RunFolder(tmp_path / "deep" / "run", CONFIG, resume=False)
    stored = json.loads((run.path / "config.json").read_text())
    assert stored["config"]["eval"] == {"guidance": [1.0, 2.0]}
    assert isinstance(stored["command"], list)
    assert run.rows == []


def test_a_taken_folder_is_refused_and_left_alone(tmp_path):
    RunFolder(tmp_path, CONFIG, resume=False).log(1, "sft", "base", loss=0.5)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match="holds a run already; add --resume to continue it"):
        RunFolder(tmp_path, CONFIG, resume=False)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", '{"command": ['),
        ("config.json", "{}"),
        ("config.json", '{"config": 3}'),
        ("results.json", '{"protocol": {}, "ro'),
        ("results.json", "[]"),
        ("results.json", '{"rows": 3}'),
        ("results.json", '{"rows": [3]}'),
        ("results.json", '{"rows": [{"phase": "rl"}]}'),
        ("results.json", '{"rows": [], "protocol": {}, "paired": [{"won": 3}]}'),
    ],
)
def test_a_damaged_file_is_named_and_kept(tmp_path, name, content):
    RunFolder(tmp_path, CONFIG, resume=False)
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=rf"{name}: is damaged .*; restore it or choose"):
        RunFolder(tmp_path, CONFIG, resume=True)
    assert (tmp_path / name).read_text() == content


@pytest.mark.parametrize("name", ["config.json", "results.json", "metrics.jsonl", ".lock"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path, name):
    RunFolder(tmp_path, CONFIG, resume=False)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=rf"{name}: .*got a pipe"):
        RunFolder(tmp_path, CONFIG, resume=True)


def test_a_process_killed_at_once_leaves_the_folder_free(tmp_path):
    (tmp_path / ".lock").touch()
    assert RunFolder(tmp_path, CONFIG, resume=False).rows == []


def test_two_processes_do_not_share_a_run(tmp_path):
    run = RunFolder(tmp_path, CONFIG, resume=False)
    script = f"""
from pathlib import Path
from pi0_jax.run.folder import RunFolder
RunFolder(Path({str(tmp_path)!r}), {CONFIG!r}, resume=True)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "another process is working on this run" in done.stderr
    assert run.path == tmp_path


@pytest.mark.parametrize("name", ["run", "new/run"])
def test_a_read_only_place_is_refused(tmp_path, monkeypatch, name):
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(os, "access", lambda *_: False)  # a test may run as root
    with pytest.raises(InputError, match="you may not write in"):
        RunFolder(tmp_path / name, CONFIG, resume=False)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is no folder"):
        RunFolder(tmp_path / "file/run", CONFIG, resume=False)


def test_resuming_needs_a_run(tmp_path):
    with pytest.raises(InputError, match="expected a run to resume, found none"):
        RunFolder(tmp_path / "nowhere", CONFIG, resume=True)
    assert not (tmp_path / "nowhere").exists()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "run").write_text("mine")
    for resume in (False, True):
        with pytest.raises(InputError, match="is a file; name a folder"):
            RunFolder(tmp_path / "run", CONFIG, resume)


@pytest.mark.parametrize(
    ("other", "sections"),
    [
        (CONFIG | {"seed": 1}, "seed: 0 -> 1"),
        (CONFIG | {"seed": 1, "new": 2}, "seed: 0 -> 1; new: None -> 2"),
        ({"rl": CONFIG["rl"], "eval": CONFIG["eval"]}, "seed: 0 -> None"),
    ],
)
def test_resuming_with_another_config_is_refused(tmp_path, other, sections):
    RunFolder(tmp_path, CONFIG, resume=False)
    with pytest.raises(InputError, match=rf"another config \({sections}\)"):
        RunFolder(tmp_path, other, resume=True)


def test_results_survive(tmp_path):
    run = RunFolder(tmp_path, CONFIG, resume=False)
    run.protocol = {"suite": "lift"}
    run.put_rows([ROW])
    again = RunFolder(tmp_path, CONFIG, resume=True)
    assert again.rows == [ROW]
    again.protocol = {"suite": "lift"}
    after = dataclasses.replace(ROW, phase="rl", method="ript")
    again.put_rows([after])
    stored = json.loads((tmp_path / "results.json").read_text())
    assert stored["protocol"] == {"suite": "lift"}
    assert [(r["method"], r["rate"]) for r in stored["rows"]] == [("base", 0.75), ("ript", 0.75)]
    assert stored["rows"][0].keys() >= {"wilson_low", "wilson_high", "successes", "episodes"}


def test_results_of_another_simulator_are_not_mixed(tmp_path):
    """Another jax may go on; another MuJoCo, renderer or kit of meshes may not, from the start."""

    def made(renderer="osmesa", assets="own", **versions):
        now = {"mujoco": "3.3.7", "jax": "1", "hf-libero": "not installed", **versions}
        return {"renderer": renderer, "assets": assets, "versions": now}

    run = RunFolder(tmp_path, CONFIG, resume=False)
    run.set_protocol(made())
    run.protocol["evaluation"] = {"episodes": 9}
    run.put_rows([])
    RunFolder(tmp_path, CONFIG, resume=True).set_protocol(made(jax="2"))
    before = made()
    del before["versions"]["hf-libero"]  # a run that began when no such package was known
    RunFolder(tmp_path, CONFIG, resume=True).set_protocol(before)
    for changed in (made(mujoco="3.8.1"), made("egl"), made(assets="a kit")):
        with pytest.raises(InputError, match=r"made with .*'3.3.7'.*this is .*(3.8.1|egl|a kit)"):
            RunFolder(tmp_path, CONFIG, resume=True).set_protocol(changed)
    stored = json.loads((tmp_path / "results.json").read_text())
    assert stored["rows"] == []
    # What earlier rows were evaluated with is still there.
    assert stored["protocol"]["evaluation"] == {"episodes": 9}


def test_a_row_measured_again_takes_its_place_and_tasks_are_added_up(tmp_path):
    run = RunFolder(tmp_path, CONFIG, resume=False)
    other = dataclasses.replace(ROW, task="push", successes=0)
    run.put_rows([ROW, other])
    run.put_rows([dataclasses.replace(ROW, successes=1, episodes=5)])
    stored = json.loads((tmp_path / "results.json").read_text())
    counts = [(r["task"], r["successes"], r["episodes"]) for r in stored["rows"]]
    assert counts == [("lift", 1, 5), ("push", 0, 4)]
    counts = [(r["task"], r["successes"], r["episodes"]) for r in stored["all_tasks"]]
    assert counts == [("all 2 tasks", 1, 9)]


def test_comparisons_survive_and_are_not_counted_twice(tmp_path):
    first, other = Paired("eval", "p", 2.0, 1.0, 5, 3), Paired("eval", "p", 3.0, 1.0, 1, 0)
    run = RunFolder(tmp_path, CONFIG, resume=False)
    run.put_rows([ROW], [first])
    again = RunFolder(tmp_path, CONFIG, resume=True)
    assert again.paired == [first]
    again.put_rows([], [other, dataclasses.replace(first, won=6)])
    assert [(one.guidance, one.won) for one in again.paired] == [(2.0, 6), (3.0, 1)]
    # Results of before there were comparisons.
    stored = json.loads((tmp_path / "results.json").read_text())
    assert stored.pop("paired")[0]["won"] == 6
    (tmp_path / "results.json").write_text(json.dumps(stored))
    assert RunFolder(tmp_path, CONFIG, resume=True).paired == []


def test_metrics_survive(tmp_path):
    run = RunFolder(tmp_path, CONFIG, resume=False)
    run.log(1, "sft", "base", loss=0.5)
    run.metrics.close()
    RunFolder(tmp_path, CONFIG, resume=True).log(2, "rl", "ript", loss=0.25)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(x["step"], x["phase"], x["method"], x["loss"]) for x in lines] == [
        (1, "sft", "base", 0.5), (2, "rl", "ript", 0.25),
    ]  # fmt: skip


def test_a_resumed_run_repeats_no_line(tmp_path):
    run = RunFolder(tmp_path, CONFIG, resume=False)
    for step in (1, 2, 3):
        run.log(step, "sft", "base", loss=0.5)
    run.rewind("sft", "base", 2)
    run.log(3, "sft", "base", loss=0.25)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(x["step"], x["loss"]) for x in lines] == [(1, 0.5), (2, 0.5), (3, 0.25)]


def test_baselines_lie_apart(tmp_path):
    run = RunFolder(tmp_path, CONFIG, resume=False)
    own = (tmp_path / "checkpoints").resolve()
    assert run.checkpoints("base").resolve() == run.checkpoints("ript").resolve() == own
    assert run.checkpoints("filtered_bc") == tmp_path / "baselines" / "filtered_bc" / "checkpoints"
    assert run.episodes("eval/base_1.5") == tmp_path / "episodes" / "eval" / "base_1.5.npz"


def test_success_text():
    good, bad = episode(2, [0], success=True), episode(2, [0])
    assert success_text([]) == "ok 0/0"
    assert success_text([good, bad, good]) == "ok 2/3"
    assert success_text([good, episode(2, [0], error="broken")]) == "ok 1/1, 1 errors"


def test_the_protocol_names_all_that_a_rate_depends_on():
    suite = make_suite("scripted", {"tolerance": 0.25})
    found = protocol(suite, "osmesa")
    assert json.loads(json.dumps(found)) == found
    assert "tolerance=0.25" in found["tasks"][0]
    assert (found["suite"], found["renderer"]) == ("scripted", "osmesa")
    assert found["instructions"] == {"scripted": "reach the dot"}
    assert (found["step_limits"], found["settle_steps"]) == ({"scripted": 24}, {"scripted": 0})
    lift = protocol(make_suite("lift", {"max_steps": 9}), "osmesa")
    assert (lift["step_limits"], lift["settle_steps"]) == ({"lift": 9}, {"lift": 5})
    assert found["versions"] == versions()


def test_a_full_disk_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(InputError, match=r"expected 1\.00 GB of free disk for a run, got 1 bytes"):
        RunFolder(tmp_path / "run", CONFIG, resume=False)
    assert not (tmp_path / "run").exists()


def test_verbosity_says_how_much_is_told(tmp_path, capsys):
    said = {}
    for level in (0, 1, 2):
        run = RunFolder(tmp_path / str(level), CONFIG, resume=False, verbosity=level)
        run.message("the table", RESULTS)
        run.message("a message")
        with run.progress("a phase", 2) as progress:
            progress.update(1)
        found = capsys.readouterr().err
        said[level] = [text for text in ("the table", "a message", "a phase") if text in found]
    assert said == {
        0: ["the table"],
        1: ["the table", "a message"],
        2: ["the table", "a message", "a phase"],
    }


def test_other_devices_and_workers_are_logged_and_stored_nowhere(tmp_path, capsys):
    """A job that comes back on another node goes on; its results are those of the first config."""
    RunFolder(tmp_path, CONFIG | {"pool": {"workers": 2}}, resume=False)
    stored = (tmp_path / "config.json").read_bytes()
    RunFolder(tmp_path, CONFIG | {"pool": {"workers": 64}}, resume=True)
    assert "config.pool.workers: 2 -> 64" in capsys.readouterr().err
    assert (tmp_path / "config.json").read_bytes() == stored


@pytest.mark.parametrize("left", [".config.json.partial", ".lock"])
def test_killed_at_the_first_write(tmp_path, left):
    """Started again with --resume or without, it begins."""
    for resume in (True, False):
        path = tmp_path / f"{resume}"
        path.mkdir()
        (path / ".lock").touch()
        (path / left).write_text('{"command')
        RunFolder(path, CONFIG, resume)
        assert json.loads((path / "config.json").read_text())["config"]["seed"] == 0
        assert not (path / ".config.json.partial").exists()


def test_what_is_unfinished_is_removed_with_a_line(tmp_path, capsys):
    RunFolder(tmp_path, CONFIG, resume=False)
    (tmp_path / "checkpoints/.8.pi0_jax-partial/state").mkdir(parents=True)
    (tmp_path / "checkpoints/.4.pi0_jax-gone").mkdir(parents=True)
    RunFolder(tmp_path, CONFIG, resume=True)
    said = capsys.readouterr().err
    assert "removed what an interruption left unfinished: checkpoints/.4.pi0_jax-gone, ch" in said
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_going_back_to_a_checkpoint_with_other_rates(tmp_path, capsys):
    def config(rate):
        return {"seed": 0, "rl": {"optimizer": {"learning_rate": rate}}}

    def checkpoint(step, phase="rl"):
        (tmp_path / f"checkpoints/{step}").mkdir(parents=True)
        (tmp_path / f"checkpoints/{step}/host.json").write_text(json.dumps({"phase": phase}))

    RunFolder(tmp_path, config(1.0), resume=False)
    for step in (44, 48, 52):
        checkpoint(step)
    with pytest.raises(InputError, match=r"rl.optimizer.learning_rate: 1.0 -> 0.5"):
        RunFolder(tmp_path, config(0.5), resume=True)
    kept = tmp_path / "episodes/ript/004.parts"
    kept.mkdir(parents=True)
    with pytest.raises(InputError, match=r"checkpoints of the steps \[44, 48, 52\]"):
        RunFolder(tmp_path, config(0.5), resume=True, from_step=40)
    assert kept.is_dir()  # a slip of the pen costs nothing
    RunFolder(tmp_path, config(0.5), resume=True, from_step=48)
    assert not kept.exists()
    found = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert found == ["44", "48", "52.aside"]
    assert "going on from checkpoint 48" in capsys.readouterr().err
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["config"] == config(0.5)
    assert [(one["config"], one["until_step"]) for one in stored["earlier"]] == [(config(1.0), 48)]
    RunFolder(tmp_path, config(0.5), resume=True)  # from here on without the flag
    run = RunFolder(tmp_path, config(0.5), resume=True)
    run.put_rows([Row("rl", "ript", "lift", 1.0, 1, 2)])
    with pytest.raises(InputError, match="training from there has ended"):
        RunFolder(tmp_path, config(0.5), resume=True, from_step=44)
