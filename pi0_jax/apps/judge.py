"""A policy judged on held-out episodes at every checkpoint: loss, and open-loop action error.

Axis letters: n window, H action horizon, e action dimension.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pi0_jax.data.held_out import JudgedSteps
from pi0_jax.data.windows import assemble, take
from pi0_jax.hosts import talk
from pi0_jax.io.metrics_writer import read_metrics
from pi0_jax.policy.open_loop import open_loop, predict
from pi0_jax.policy.policy import Policy
from pi0_jax.run.folder import RunFolder
from pi0_jax.run.methods import BASE
from pi0_jax.training.fit import final_params
from pi0_jax.training.step import SampledLoss, TrainState
from pi0_jax.types import Batch

HELD_OUT = "held_out"
"""The phase of these lines of metrics.jsonl."""


class HeldOutJudge:
    """Judges on the same steps, noise and times every time, so the points of a curve are paired.

    The best policy is the one with the smallest relative action error (`OpenLoop.relative`): it is
    what the robot would do, and it does not fall on while a policy learns its episodes by heart.
    """

    def __init__(
        self,
        run: RunFolder,
        policy: Policy,
        steps: JudgedSteps,
        loss: SampledLoss,
        scale: np.ndarray,
    ):
        """Prepares the windows.

        Args:
            run: where the lines are written.
            policy: acts; its parameters are replaced by those that are judged.
            steps: n held-out steps.
            loss: the loss of the training, without augmentation.
            scale: float[e], standard deviation of the recorded actions.
        """
        self._run, self._policy, self._steps, self._scale = run, policy, steps, scale
        weights = np.ones(len(steps.actions), np.float32)
        parts = (steps.observations, steps.actions, steps.mask, weights)
        self._windows = assemble(*parts, policy.transforms)
        self._evaluate = jax.jit(
            lambda params, batch, key: loss.evaluate(params, batch, loss.sample(key, batch))[0]
        )

    def begin(self, state: TrainState, judged: bool) -> None:
        """Judges what training starts from; a resumed run forgets what it will do again."""
        step = int(state.step)
        self._run.rewind(HELD_OUT, BASE, step)
        if judged and step not in {line["step"] for line in self._lines()}:
            self.judge(state)

    def judge(self, state: TrainState) -> None:
        """Judges a policy, and writes a line of metrics."""
        params = final_params(state)
        predicted = predict(self._policy.with_params(params), self._steps)
        found = open_loop(predicted, self._steps, self._scale)
        values = {"error": found.relative, "loss": self._loss(params)}
        names = [dimension.name for dimension in self._policy.robot.actions]
        for step, errors in zip(found.at, found.errors, strict=True):
            values |= {f"error_{step}/{n}": x for n, x in zip(names, errors, strict=True)}
        self._run.log(int(state.step), HELD_OUT, BASE, **values)
        self._run.message(
            f"held out, step {int(state.step)}: loss {values['loss']:.4f}, action error "
            f"{found.relative:.3f} standard deviations"
        )

    def best(self, stored: Collection[int]) -> Collection[int]:
        """The step of the best policy of those with a checkpoint."""
        lines = [x for x in self._lines() if x["step"] in stored and x.get("error") is not None]
        return {min(lines, key=lambda line: line["error"])["step"]} if lines else ()

    def _lines(self) -> list[Mapping[str, Any]]:
        return talk.first(lambda: _lines_of(self._run.path / "metrics.jsonl"))

    def _loss(self, params: Any) -> float:
        """The mean over all real steps of all windows, some windows at a time."""
        rows, count = self._policy.rows, len(self._steps.actions)
        sums, real = 0.0, 0
        for first in range(0, count, rows):
            # The last part is filled up with windows that do not count.
            indices = np.arange(first, first + rows)
            batch = _masked(take(self._windows, np.minimum(indices, count - 1)), indices < count)
            number = int(batch.action_mask.sum())
            sums += number * float(self._evaluate(params, batch, jax.random.key(first)))
            real += number
        return sums / real


def _lines_of(metrics: Path) -> list[Mapping[str, Any]]:
    """The lines of metrics.jsonl that a judge has written."""
    return [line for line in read_metrics(metrics) if line["phase"] == HELD_OUT]


def _masked(batch: Batch, kept: np.ndarray) -> Batch:
    """The batch with the windows that bool[b] `kept` leaves out masked."""
    return replace(batch, action_mask=np.asarray(batch.action_mask) & kept[:, None])
