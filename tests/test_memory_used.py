"""The memory of this process, which is some hundred megabytes at least."""

import numpy as np

from pi0_jax.run.memory_used import memory_used


def test_a_peak_grows_with_what_is_held():
    before = memory_used()
    # A CPU has no memory of its own.
    assert before.keys() == {"host_peak_gb"}
    assert 0.05 < before["host_peak_gb"] < 1000
    held = np.ones(2**24)  # 134 MB
    assert memory_used()["host_peak_gb"] >= max(before["host_peak_gb"], held.nbytes / 1e9)
