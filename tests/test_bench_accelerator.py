"""The bench of one accelerator keeps what a part has said, however it ends."""

from pathlib import Path

import pytest


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """The module bench/accelerator.py with a part of its own, which no library slows down."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "bench"))
    import accelerator

    part = tmp_path / "part.py"
    part.write_text(
        "import sys, time\n"
        "print('noise of a library')\n"
        "print('sample 1 rows | 18 ms', flush=True)\n"
        "if sys.argv[1] == 'slow': time.sleep(60)\n"
        "if sys.argv[1] == 'large': raise MemoryError('out of memory')\n"
    )
    monkeypatch.setattr(accelerator, "PART", part)
    return accelerator


@pytest.mark.parametrize(
    ("name", "seconds", "end"),
    [
        ("good", 20, []),
        ("slow", 1, [("slow 8", "ended after 1 s")]),
        ("large", 20, [("large 8", "failed: MemoryError: out of memory")]),
    ],
)
def test_what_was_said_before_the_end_is_kept(bench, name, seconds, end):
    found = bench.run(bench.Part(name, seconds, ("8",)), "small", seconds)
    assert [(line.what, line.value) for line in found] == [("sample 1 rows", "18 ms"), *end]


def test_the_table_is_markdown(bench):
    text = bench.table([bench.Line("sample 1 rows", "18 ms")], "pi0")
    assert text.endswith("| what | value |\n|---|---|\n| sample 1 rows | 18 ms |\n")
