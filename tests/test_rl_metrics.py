"""What an iteration says of itself, by hand."""

import dataclasses

import numpy as np
import pytest
from tiny import episode

from pi0_jax.episode import Group
from pi0_jax.rl.iteration import CollectedGroups, WeightedWindows
from pi0_jax.rl.metrics import PHASES, iteration_metrics, no_update_reason
from pi0_jax.testing import batch

GOOD, BAD = episode(4, [0], success=True), episode(6, [0])
BROKEN = dataclasses.replace(BAD, error="broken", task="other")
MIXED = Group((GOOD, BAD))


def test_a_line_of_metrics():
    found = CollectedGroups((GOOD, BAD, BAD, BROKEN), (MIXED,), tried=4, skipped=2)
    windows = batch(4).replace(weight=np.array([0, 1, 3, 0], np.float32))
    line = iteration_metrics(7, found, WeightedWindows(windows, 3), np.array([2.0, 0.5, 8.0]))
    other = line.pop("success/other")
    assert np.isnan(other)  # no valid episode; written as null
    assert line == {
        "iteration": 7,
        "rollout_success": pytest.approx(1 / 3),
        "success/scripted": pytest.approx(1 / 3),
        "rollouts": 4,
        "errors": 1,
        "groups_tried": 4,
        "groups_accepted": 1,
        "groups_accepted_share": 0.25,
        "groups_skipped": 2,
        "advantages_not_finite": 3,
        "windows": 4,
        "positive_share": 0.5,
        "positive_weight_mean": 2.0,
        "seconds_rollout": 2.0,
        "seconds_windows": 0.5,
        "seconds_train": 8.0,
    }
    assert PHASES == ("seconds_rollout", "seconds_windows", "seconds_train")


def test_a_line_of_a_step_without_rollouts():
    line = iteration_metrics(
        1, CollectedGroups(skipped=3), WeightedWindows(), np.array([0.1, 0, 0])
    )
    assert (line["rollouts"], line["groups_skipped"], line["windows"]) == (0, 3, 0)
    assert (line["groups_accepted_share"], line["positive_weight_mean"]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("found", "more", "text"),
    [
        (
            CollectedGroups((GOOD, GOOD), (), tried=1),
            False,
            "no group was informative (1 tried, 100% of the rollouts succeeded); no update",
        ),
        (
            CollectedGroups((BAD, BAD), (), tried=1),
            True,
            "no group was informative (1 tried, 0% of the rollouts succeeded); "
            "training continues with earlier windows",
        ),
        (
            CollectedGroups((BROKEN, BROKEN), (), tried=1),
            False,
            "no rollout was completed (all 2 ended in an error of the simulator, "
            "the last: broken); no update",
        ),
        (
            CollectedGroups(skipped=5),
            False,
            "no group was informative (all 5 groups were skipped: their states are solved, or "
            "their task missed its turn); no update",
        ),
        (
            CollectedGroups((GOOD, BAD), (MIXED,), tried=1),
            False,
            "no new training windows (in 1 informative groups every window is too "
            "short); no update",
        ),
    ],
)
def test_why_there_are_no_new_windows(found, more, text):
    assert no_update_reason(found, more) == text
