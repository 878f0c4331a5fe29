"""Kills and power cuts, in small: some points of the hundreds that `make torture` tries."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from skips import needs_compiler, slow

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))
from torture import flips, power, recorder, stopping
from torture.disk import POWER_CUTS, Disk, Order, cuts, read_tree
from torture.ground import RUN, ground, train_again
from torture.kills import resume_all, spread, unread
from torture.resume import warm
from torture.tiny_run import ROOT

pytestmark = needs_compiler
# All of them in CI, which runs slow tests.
POINTS = 20 if os.environ.get("PI0_JAX_SLOW") == "1" else 8
A, B = b'{"step": 1}', b'{"step": 2}'
DURABLE = "write_text(run / 'a.json', text)"
NO_FSYNC = "part.write_text(text); part.rename(run / 'a.json')"
IN_PLACE = "(run / 'a.json').write_text(text)"


def written(tmp_path: Path, writer: str) -> tuple[Path, list[recorder.Change]]:
    """The changes of a process that writes run/a.json twice."""
    root, log = (tmp_path / "root").resolve(), tmp_path / "log"
    (root / RUN).mkdir(parents=True)
    code = f"""
from pathlib import Path
from pi0_jax.io.atomic import write_text
run = Path({str(root / RUN)!r})
part = run / '.a.json.partial'
for text in ({A.decode()!r}, {B.decode()!r}):
    {writer}
"""
    settings = recorder.settings(recorder.build(tmp_path), root, log)
    settings["PYTHONPATH"] = str(ROOT)
    subprocess.run([sys.executable, "-c", code], env=settings, check=True)
    return root, recorder.read(log)


@pytest.mark.parametrize(
    ("writer", "kept"),
    [
        # Before, one whole version or the other; a crash of the process alone shows the same.
        (DURABLE, {order: {None, A, B} for order in Order}),
        # The name is there, its bytes are not; or nothing ever arrives.
        (NO_FSYNC, {Order.ALL: {None, A, B}, Order.SYNCED: {None}, Order.NAMES_FIRST: {None, b""}}),
        (NO_FSYNC, {Order.ZEROS: {None, bytes(len(A))}, Order.BYTES_FIRST: {None}}),
        (IN_PLACE, {Order.ALL: {None, b"", A, B}, Order.NAMES_FIRST: {None, b""}}),
    ],
)
def test_what_a_power_cut_leaves_of_a_file(tmp_path, writer, kept):
    root, changes = written(tmp_path, writer)
    before = {RUN: None}
    for order, contents in kept.items():
        found = cuts(root, changes, order, unread, before)
        assert {cut.tree.get(f"{RUN}/a.json") for cut in found} == contents, order


def test_a_torn_file_is_found(tmp_path):
    root, changes = written(tmp_path, NO_FSYNC)
    finished = {f"{RUN}/a.json": {A, B}}
    found = cuts(root, changes, Order.NAMES_FIRST, unread, {RUN: None})
    torn = {tuple(power.torn(cut.tree, finished)) for cut in found}
    assert torn == {(), (f"{RUN}/a.json",)}


@pytest.fixture(scope="module")
def made():
    """An unbroken run with all its changes, made by a process of its own."""
    with ground(Path(os.environ["JAX_COMPILATION_CACHE_DIR"])) as found, warm():
        yield found


@pytest.fixture(scope="module")
def moments(made):
    """All states before a change and after the last."""
    return cuts(made.root, made.run.changes, Order.ALL, unread)


def test_the_recorder_misses_nothing(made):
    """Python's writes and those of TensorStore, replayed, are what lies on the disk."""
    disk = Disk(made.root)
    for change in made.run.changes:
        disk.apply(change)
    assert disk.tree(Order.ALL) == read_tree(made.wanted) == made.run.after
    # All that a finished run has said to be there is on the disk too.
    lost = disk.tree(Order.ALL).keys() - disk.tree(Order.SYNCED).keys()
    assert not [name for name in lost if ".parts" not in name]


def test_killed_before_a_change_it_ends_as_the_unbroken_run(made, moments):
    assert len(moments) > 100
    chosen = spread(moments, POINTS)
    ended = list(resume_all(chosen, made.root, train_again, made.wanted, RUN))
    assert {cut.number: wrong for cut, wrong in ended if wrong} == {}
    assert len(ended) == POINTS


def test_after_a_power_cut_it_can_be_resumed(made, moments):
    finished, config = power.contents(moments), power.stored_config(made.run.after, RUN)
    checker = power.Checker(made.root, RUN, config)
    for order in POWER_CUTS:
        if order is not Order.MIXED:
            found = cuts(made.root, made.run.changes, order, unread)
            assert len(found) > 50
            assert [name for cut in found for name in power.torn(cut.tree, finished)] == []
            chosen = spread(found, 5)
            assert [wrong for cut in chosen if (wrong := checker.check(cut, finished))] == []


def test_a_run_that_never_waits_is_found_bad(made, moments):
    """The check itself: without its fsyncs the same run would lose nearly everything."""
    changes = [one for one in made.run.changes if one.kind is not recorder.Kind.SYNC]
    finished = power.contents(moments)
    found = cuts(made.root, changes, Order.NAMES_FIRST, unread)
    assert len([cut for cut in found if power.torn(cut.tree, finished)]) > len(found) * 0.9


def test_damage_is_never_silent(made):
    rows = list(flips.damaged(made, bits=60, others=20))
    assert [row.wrong for row in rows] == [[], [], []]


@slow
def test_kill_of_a_real_process(made):
    """Otherwise the states that kills leave are replayed."""
    rows = list(stopping.killed(made, ("SFT",)))
    assert [row.wrong for row in rows] == [[]]
