"""How the processes of a run find each other, and how they end together.

A process that fails or is interrupted says so before it ends, and the others end with a line that
names it. Of one that dies without a word, jax's coordinator tells the others, and ends them.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax._src import distributed

from pi0_jax.errors import InputError, first_line
from pi0_jax.hosts.talk import HostEndedError, barrier, group, heard, leads, tell

AUTO = "auto"
"""`--host` where SLURM, Kubernetes, MPI or a TPU pod says which host this is."""

_JOIN_S = 300  # until all have come
_SILENCE_S = 30  # without a sign of life, until a process counts as dead
_LOOK_S = 0.5  # from one look for hosts that have ended to the next
_GRACE_S = 15  # that a process has to end after another one; less than the silence
_ENDED = "ended"


@contextlib.contextmanager
def joined(host: str, coordinator: str, stop: Callable[[], None]) -> Iterator[None]:
    """A block that this process runs together with the others; before any other use of jax.

    Args:
        host: "INDEX/COUNT", or "auto"; "" for a process that is alone.
        coordinator: HOST:PORT of host 0, where it listens; "" with "auto".
        stop: asks the main thread to come to an end; called in another one, when a host has ended.

    Raises:
        InputError: not all processes have come, or the arguments do not say which this is.
        HostEndedError: another one has ended.
    """
    if not (host or coordinator):
        yield
        return
    _connect(host, coordinator)
    done = threading.Event()
    with _last_words() as unsaid:
        threading.Thread(target=_watch, args=(stop, done, unsaid), daemon=True).start()
        try:
            yield
            # A host that still works needs the others, and the coordinator.
            barrier()
        except BaseException as error:
            # First of all: from now on nobody needs to be stopped.
            done.set()
            cause = _cause(error)
            _say_goodbye(cause)
            if cause is not error:
                raise cause from error
            raise
        finally:
            done.set()


def _connect(host: str, coordinator: str) -> None:
    """Joins the others.

    Raises:
        InputError: as `joined`.
    """
    # Its handler of SIGTERM would take the place of ours.
    jax.config.update("jax_enable_preemption_service", False)
    given: dict[str, Any] = {"coordinator_address": coordinator or None}
    if host != AUTO:
        given["process_id"], given["num_processes"] = _numbers(host, coordinator)
        # Not on all networks of host 0, as jax would.
        given |= {"coordinator_bind_address": coordinator, "cluster_detection_method": "deactivate"}
    given |= {"initialization_timeout": _JOIN_S, "heartbeat_timeout_seconds": _SILENCE_S}
    try:
        jax.distributed.initialize(**given)
    except (ValueError, RuntimeError, OSError) as error:
        raise InputError(
            f"--host={host}: cannot join the other processes: {first_line(error)}; without SLURM, "
            "Kubernetes, MPI or a TPU pod, start each with --host=INDEX/COUNT and "
            "--coordinator=ADDRESS:PORT of host 0"
        ) from error
    found = distributed.global_state
    group.index, group.count, group.client = found.process_id, found.num_processes, found.client


def _numbers(host: str, coordinator: str) -> tuple[int, int]:
    """Index and count of "INDEX/COUNT".

    Raises:
        InputError: it is not of this form, or there is no address.
    """
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", host)
    if not found or int(found[1]) >= int(found[2]):
        raise InputError(f"--host: expected INDEX/COUNT such as 0/2 and 1/2, or auto, got {host!r}")
    if not re.fullmatch(r".+:\d{1,5}", coordinator):
        raise InputError(
            f"--coordinator: expected ADDRESS:PORT of host 0, such as 10.0.0.1:1234, got "
            f"{coordinator!r}"
        )
    return int(found[1]), int(found[2])


@contextlib.contextmanager
def _last_words() -> Iterator[Callable[[], None]]:
    """A block in which the sudden end of this process is a line on standard error.

    Yields:
        What says that no word is needed.
    """
    line = (
        f"error: host {group.index} of {group.count} ended without a word: it was killed, or "
        "another host was; what was saved is kept, and --resume continues"
    )
    # Of a process that is killed nothing can speak but another one: its pipe is closed then.
    script = 'trap "" INT TERM HUP USR1; read word || printf "%s\\n" "$1" >&2'
    child = subprocess.Popen(
        ["sh", "-c", script, "sh", line], stdin=subprocess.PIPE, start_new_session=True
    )

    def unsaid() -> None:
        """Ends the child."""
        child.communicate(b"\n")

    try:
        yield unsaid
    finally:
        unsaid()


def _watch(stop: Callable[[], None], done: threading.Event, unsaid: Callable[[], None]) -> None:
    """Ends this process soon after another one, also where its main thread can not."""
    while not done.wait(_LOOK_S):
        if not (found := _others_ended()):
            continue
        group.ended = found
        if done.is_set():
            return
        stop()
        if not done.wait(_GRACE_S):
            # The main thread waits in an update for a host that is not there.
            _tell_ended(found)
            sys.stderr.write(f"error: {found}; --resume continues\n")
            sys.stderr.flush()
            unsaid()
            os._exit(found.code)
        return


def _others_ended() -> HostEndedError | None:
    """Why another host has ended; None while none has."""
    # Without a coordinator there is no host 0, and jax ends this process.
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        for index, value in heard(f"{_ENDED}/").items():
            if int(index) != group.index:
                return HostEndedError(*json.loads(value))
    return None


def _cause(error: BaseException) -> BaseException:
    """Why this process ends: the end of another one, if there was one."""
    # The network of the devices may be the first to notice that a host is not there, and what it
    # raises has several types. Soon jax ends this process, or the host has said why it ended.
    ours = isinstance(error, (InputError, OSError)) or not isinstance(error, Exception)
    until = time.monotonic() + (0 if ours else 1.5 * _SILENCE_S)
    while not (found := group.ended or _others_ended()) and time.monotonic() < until:
        time.sleep(_LOOK_S)
    return found or error


def _say_goodbye(cause: BaseException) -> None:
    """Tells the others that this process ends; host 0 waits until all have heard."""
    _tell_ended(cause)
    until = time.monotonic() + _GRACE_S + 2 * _LOOK_S
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        while leads() and len(heard(f"{_ENDED}/")) < group.count and time.monotonic() < until:
            time.sleep(_LOOK_S)


def _tell_ended(cause: BaseException) -> None:
    if isinstance(cause, HostEndedError):
        told = (cause.host, cause.code, cause.reason)
    elif isinstance(cause, KeyboardInterrupt):
        told = (group.index, 130, "it was interrupted")
    else:
        told = (group.index, 2 if isinstance(cause, InputError) else 1, first_line(cause))
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        tell(f"{_ENDED}/{group.index}", json.dumps(told).encode())
