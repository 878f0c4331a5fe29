"""Job functions of test_ray_pool, in a file that workers import quickly."""

import os
import time
from pathlib import Path


def where(simulator) -> tuple[str, int]:
    """Node and process."""
    import ray

    time.sleep(0.05)
    return ray.get_runtime_context().get_node_id(), os.getpid()


def hang_once(simulator, mark: str) -> str:
    """Hangs unless there is a file `mark`, and makes it."""
    if not Path(mark).exists():
        Path(mark).touch()
        time.sleep(600)
    return "awake"
