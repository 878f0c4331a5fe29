"""The far side of a worker on Ray: what its actor does, in a process on any node of a cluster.

It imports neither ray nor jax.
"""

import os
import pickle
from collections.abc import Mapping, Sequence

from pi0_jax.env.robosuite.gl import egl_device
from pi0_jax.env.workers.machine import describe, differences
from pi0_jax.env.workers.source import Reply
from pi0_jax.env.workers.worker import SimulatorSlot, answer
from pi0_jax.errors import InputError


class FarSide:
    """Runs pickled jobs, one at a time, as a worker process of the pool does.

    Args:
        renderer: MuJoCo's GL backend.
        number: of this worker among those of its node; several GPUs draw for them in turn.
    """

    def __init__(self, renderer: str, number: int) -> None:
        self._renderer = renderer
        self._slot = SimulatorSlot()
        device = egl_device(number) if renderer == "egl" else None
        if device is not None:
            # In time: MuJoCo is imported by the first task.
            os.environ["MUJOCO_EGL_DEVICE_ID"] = device

    def meet(self, assets: Sequence[str], expected: Mapping[str, str]) -> bytes:
        """The pickled first reply: an error if this machine is not as the run's own."""
        try:
            strange = differences(expected, describe(self._renderer, assets))
        except InputError as error:
            strange = str(error)
        return pickle.dumps(Reply(error=strange or None))

    def answer(self, message: bytes) -> bytes:
        """The pickled reply to a pickled job."""
        # As bytes: arrays that Ray itself unpickles are read-only, and MuJoCo refuses those.
        return answer(self._slot, message)
