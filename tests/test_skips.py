"""A run counts its skips by reason, and fails on a reason that is not listed."""

from pathlib import Path

import pytest
from skips import NO_LIBERO

pytest_plugins = "pytester"

CONFTEST = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from skips import pytest_sessionfinish, pytest_terminal_summary
"""

FILE = """
import pytest

def test_passes():
    pass

@pytest.mark.skipif(True, reason={reason!r})
def test_marked():
    pass

def test_skips_itself():
    pytest.skip({reason!r})
"""
MODULE = """
import pytest
pytest.skip({reason!r}, allow_module_level=True)
"""


def run(pytester: pytest.Pytester, reason: str, *arguments: str) -> tuple[int, list[str]]:
    """Exit code of a run with three skips, and what it says of them."""
    pytester.makeconftest(CONFTEST)
    texts = {"test_file": FILE, "test_module": MODULE}
    pytester.makepyfile(**{name: text.format(reason=reason) for name, text in texts.items()})
    done = pytester.runpytest(*arguments)
    return int(done.ret), [line for line in done.outlines if " skipped: " in line]


def test_a_listed_reason_is_counted_and_passes(pytester):
    assert run(pytester, NO_LIBERO) == (0, [f"3 skipped: {NO_LIBERO}"])


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "pytest-xdist"])
def test_any_other_reason_fails_the_run(pytester, workers):
    said = "3 skipped: NOT ALLOWED (tests/skips.py): no data here"
    assert run(pytester, "no data here", *workers) == (1, [said])
