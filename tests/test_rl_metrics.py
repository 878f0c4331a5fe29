"""What an iteration says of itself, by hand."""

import dataclasses

import numpy as np
import pytest
from tiny import RIPT, batch, episode

from pi0_jax.episode import Group
from pi0_jax.rl.iteration import CollectedGroups
from pi0_jax.rl.metrics import PHASES, iteration_metrics, no_update_reason

GOOD, BAD = episode(4, [0], success=True), episode(6, [0])
BROKEN = dataclasses.replace(BAD, error="broken", task="other")
MIXED = Group((GOOD, BAD))


def test_a_line_of_metrics():
    found = CollectedGroups((GOOD, BAD, BAD, BROKEN), (MIXED,), tried=4, skipped=2)
    windows = batch(4).replace(weight=np.array([0, 1, 3, 0], np.float32))
    line = iteration_metrics(RIPT, 7, found, windows, np.array([2.0, 0.5, 8.0]))
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
        "advantages_not_finite": 0,
        "windows": 4,
        "positive_share": 0.5,
        "positive_weight_mean": 2.0,
        "seconds_rollout": 2.0,
        "seconds_windows": 0.5,
        "seconds_train": 8.0,
    }
    assert PHASES == ("seconds_rollout", "seconds_windows", "seconds_train")


def test_a_line_of_a_step_without_rollouts():
    line = iteration_metrics(RIPT, 1, CollectedGroups(skipped=3), None, np.array([0.1, 0, 0]))
    assert (line["rollouts"], line["groups_skipped"], line["windows"]) == (0, 3, 0)
    assert (line["groups_accepted_share"], line["positive_weight_mean"]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("found", "more", "text"),
    [
        (
            CollectedGroups((GOOD, GOOD), (), tried=1),
            False,
            "ript 3: no group taught anything (1 tried, 100% of the rollouts succeeded); no update",
        ),
        (
            CollectedGroups((BAD, BAD), (), tried=1),
            True,
            "ript 3: no group taught anything (1 tried, 0% of the rollouts succeeded); training "
            "goes on with earlier windows",
        ),
        (
            CollectedGroups(skipped=5),
            False,
            "ript 3: no group taught anything (all 5 groups of initial states are solved and were "
            "passed over); no update",
        ),
        (
            CollectedGroups((GOOD, BAD), (MIXED,), tried=1),
            False,
            "ript 3: no group taught anything (1 groups were accepted, but no window of them is "
            "whole); no update",
        ),
    ],
)
def test_why_nothing_was_taught(found, more, text):
    assert no_update_reason("ript", 3, found, more) == text
