"""How the bench scripts write a success rate."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from rates import rate_text


def test_a_rate():
    assert rate_text(1, 2) == "50.0 [9.5, 90.5]"
    assert rate_text(0, 0) == "-"
