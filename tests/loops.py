"""What the tests of the RIPT loop share: tasks, demonstrations, and few compilations."""

import contextlib
from collections.abc import Iterator

import pytest
from tiny import episode

from pi0_jax.data.demonstrations import Recorded
from pi0_jax.env.scripted import ScriptedTask
from pi0_jax.training import setup as training_setup
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.step import SampledLoss

MIXED = ScriptedTask(max_steps=8, image_size=16, tolerance=0.6, speed=0.3)
HOPELESS = ScriptedTask(max_steps=4, image_size=16, tolerance=0.0)
EASY = ScriptedTask(max_steps=4, image_size=16, tolerance=9.0)
# The first and the last layer of the actions, and the embedding of the branches: what else could be
# trained would be learnt alike, and is half of the time that an update takes to compile.
TRAINED = ((r"(action_in_proj|action_out_proj|cond_embed)(/.*)?", 1.0), (r".*", 0.0))
OPTIMIZER = OptimizerConfig(1e-3, warmup_steps=1, rules=TRAINED)
DEMOS = Recorded([episode(8, [0, 4], seed=seed) for seed in range(3)])

LONGEST = 6
_UPDATES = {}


@contextlib.contextmanager
def compiled_once() -> Iterator[None]:
    """Loops share the compiled update of one optimizer, schedule and loss.

    A loss is what its function refers to, too: its objective's settings, network and branch mode.
    The schedule is that of the longest run here, or its length would make programs of their own.
    """
    create = training_setup.create_training

    def shared(params, loss, config, steps, hardware):
        assert steps <= LONGEST
        state, update = create(params, loss, config, LONGEST, hardware)
        if not isinstance(loss, SampledLoss):
            return state, update  # a test's own
        # Every value that the loss reads is in a closure, so equal keys mean equal programs.
        evaluate, sample = _contents(loss.evaluate), _contents(loss.sample)
        return state, _UPDATES.setdefault((config, hardware, evaluate, sample), update)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_setup, "create_training", shared)
        yield


def _contents(function) -> tuple:
    cells = function.__closure__ or ()
    return function.__code__, *(cell.cell_contents for cell in cells)
