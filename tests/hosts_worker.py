"""One of two hosts that talk, and of which the second fails: run by test_talk and test_joining.

python tests/hosts_worker.py HOST COORDINATOR OUT.json
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np
from tiny import episode

from pi0_jax.errors import InputError
from pi0_jax.hosts import talk
from pi0_jax.hosts.joining import joined
from pi0_jax.hosts.talk import HostEndedError
from pi0_jax.io.shared_episodes import of_all_hosts, of_first_host
from pi0_jax.run.followed import check_alike

SEEDS = (5, 6, 7)


def main() -> None:
    host, coordinator, out = sys.argv[1:]
    found: dict = {"made": []}
    try:
        with joined(host, coordinator, stop):
            say(found)
            if not talk.leads():
                raise InputError("the second host is broken\nin two lines")
            talk.barrier()  # for the end of the other one
    except (ValueError, HostEndedError) as error:
        found["error"] = [type(error).__name__, str(error), getattr(error, "code", None)]
    Path(out).write_text(json.dumps(found))
    os._exit(0)  # an ordinary exit waits for the other one


def say(found: dict) -> None:
    """Every way of talking once; what it gives goes into `found`."""

    def make(value):
        found["made"].append(value)
        return value

    index = talk.group.index
    found["gather"] = talk.gather({"host": index})
    found["agree"] = [talk.agree(index == 1), talk.agree(False)]
    found["first"] = talk.first(lambda: make(f"of {index}"))
    found["share"] = talk.share(range(5))
    found["in_order"] = talk.in_order(talk.gather(found["share"]))
    # More than goes through the coordinator, and of two lengths.
    parts = talk.gather_bytes(bytes([index]) * (100_000 + index))
    found["bytes"] = [[len(part), part[0], part[-1]] for part in parts]
    tree = talk.first_tree({"a": np.full((2, 3), index, np.float16), "b": np.full(70_000, -index)})
    found["tree"] = [tree["a"].tolist(), str(tree["a"].dtype), tree["b"].shape, int(tree["b"][-1])]
    own = [episode(2, [0], seed=seed) for seed in talk.share(SEEDS) for _ in range(2)]
    found["seeds"] = [one.seed for one in of_all_hosts(own, 2)]
    found["images"] = [int(one.images.sum()) for one in of_first_host(lambda: own)]
    try:
        check_alike({"seed": 1, "rows": index})
    except ValueError as error:
        found["alike"] = str(error)


def stop() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


if __name__ == "__main__":
    main()
