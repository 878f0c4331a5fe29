"""What the benches compare with computes the same: else the comparison would say nothing."""

from pathlib import Path

import jax
import pytest
from skips import slow
from tiny import MODEL

from pi0_jax.rl.objectives.cfg import Cfg
from pi0_jax.testing import batch
from pi0_jax.training.supervised import flow_matching_loss

BENCH = Path(__file__).parents[1] / "bench"
KEY = jax.random.key(2)


@pytest.fixture
def naive(monkeypatch):
    """The module bench/naive.py."""
    monkeypatch.syspath_prepend(str(BENCH))
    import naive

    return naive


@slow
def test_the_formulations_agree(naive, params):
    windows = batch(2)
    masked = windows.obs.image_mask.copy()
    masked[:, 1] = False
    windows = windows.replace(obs=windows.obs.replace(image_mask=masked))
    for ours, other in (
        (flow_matching_loss(MODEL, 1), naive.joint_loss(MODEL)),
        (Cfg(0.1).loss(MODEL, 1, "embedding"), naive.two_pass_loss(MODEL, 0.1)),
    ):
        found = [float(jax.jit(loss)(params, windows, KEY)[0]) for loss in (ours, other)]
        assert found[0] == pytest.approx(found[1], rel=1e-5)
