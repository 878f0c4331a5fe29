"""The connection to a cluster of Ray.

Ray sends pickles, so whoever can reach the cluster can run code on it: use a private network.
"""

import contextlib
import importlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

from pi0_jax.errors import InputError, first_line
from pi0_jax.optional import needed

_LISTEN_TIMEOUT_S = 10.0


def import_ray() -> Any:
    """The package of Ray, which is an extra.

    Raises:
        InputError: it is not installed.
    """
    with needed("config.pool.engine='ray'", "pip install -e '.[ray]'"):
        return importlib.import_module("ray")


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """A block in which this process is connected to a cluster that runs already.

    Args:
        address: HOST:PORT of the cluster's head; "" for RAY_ADDRESS, and without that for the
            cluster that `ray start` has made this machine a node of.

    Raises:
        InputError: Ray is not installed, or there is no such cluster.
    """
    ray, where = import_ray(), address or os.environ.get("RAY_ADDRESS") or "auto"
    if ray.is_initialized():  # by the caller, who also ends it
        yield
        return
    if where != "auto":
        _check_listens(where)
    try:
        with _own_signals():
            ray.init(where, log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise InputError(_none(where, error)) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_listens(where: str) -> None:
    """Checks that somebody listens there: Ray tries for minutes.

    Raises:
        InputError: nobody does, or it is no HOST:PORT.
    """
    host, _, port = where.rpartition(":")
    if "/" in where or not host or not port.isdigit():
        raise InputError(
            f"config.pool.address must be HOST:PORT of the head of a Ray cluster, got {where!r}; "
            "this machine has to be one of its nodes (`ray start --address=HOST:PORT`)"
        )
    try:
        socket.create_connection((host, int(port)), _LISTEN_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise InputError(_none(where, error)) from error


def _none(where: str, error: Exception) -> str:
    return (
        f"no Ray cluster at {where!r} ({first_line(error)}): start one with `ray start --head` "
        "and set config.pool.address=HOST:PORT or RAY_ADDRESS"
    )


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keeps this process's answers to signals, which Ray replaces by its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
