"""Serve a policy folder to robots and harnesses over openpi's websocket protocol.

pi0-serve --checkpoint POLICY [--port 8000] [--rows 8] [--guidance 1.5] [--num-flow-steps 10] [...]

Compiles all that it may be asked for, then listens; SIGTERM and Ctrl-C answer what is in progress,
and exit with 0. Standard output has one line of JSON per request. docs/serve.md has the rest. In
a clone, `python serve.py` is the same command.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from pi0_jax.apps.serve_flags import parser
from pi0_jax.apps.start import fingerprint
from pi0_jax.errors import InputError, exit_status, first_line
from pi0_jax.optional import needed
from pi0_jax.plain_file import read_text
from pi0_jax.policy.policy import Policy
from pi0_jax.policy.reference import kind_of
from pi0_jax.policy.reference_fit import load_with_reference
from pi0_jax.serve.describe import description, metadata
from pi0_jax.serve.layouts import layouts_of
from pi0_jax.serve.request import Rules, Sampling
from pi0_jax.serve.settings import INSTALL, KEY_VARIABLE, Limits, Listening
from pi0_jax.serve.warm_up import scales_to_compile, warm_up


def command() -> NoReturn:
    """`pi0-serve`."""
    # Before the first use of a device, which others may share. What a user has chosen stands.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    sys.exit(status(sys.argv[1:]))


def status(argv: Sequence[str]) -> int:
    """Runs the command; an error that the user can act on becomes one line and an exit code."""
    return exit_status(lambda: main(argv), "interrupted before the server listened")


def main(argv: Sequence[str]) -> None:
    """Serves until a signal ends it.

    Raises:
        InputError: a flag, the policy folder or a limit is wrong, or a package is missing.
        OSError: the port is taken, or a file cannot be read.
    """
    given = parser(__doc__ or "").parse_args(argv)
    # What costs nothing comes before the weights are read.
    listening, limits = _listening(given), _limits(given)
    _check_packages()
    _check_port(listening)
    folder = load_with_reference(given.checkpoint, given.reference)
    policy = Policy.from_folder(
        folder, given.guidance, given.num_flow_steps, given.rows, kind_of(given.reference)
    )
    rules = _rules(given, policy)
    _say(f"{given.checkpoint} is served as\n{description(policy, folder.spec, rules)}")
    _compile(policy, rules)
    told = metadata(policy, folder.spec, rules, fingerprint(given.checkpoint))
    asyncio.run(_serve(policy, rules, told, limits, listening, given))


async def _serve(
    policy: Policy,
    rules: Rules,
    told: Mapping[str, Any],
    limits: Limits,
    listening: Listening,
    given: argparse.Namespace,
) -> None:
    """Listens, and ends at SIGTERM or Ctrl-C."""
    from pi0_jax.serve.server import PolicyServer, Service

    service = Service(policy, rules, told, limits, listening, given.wait_ms / 1e3, given.seed)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    def listens(port: int) -> None:
        secure = "s" if listening.certificate else ""
        there = f"{listening.host}:{port}"
        _say(f"listening on ws{secure}://{there}; what it does now: http{secure}://{there}/")

    await PolicyServer(service, _log).run(stop, listens)
    _say("ended; what was in progress has its answer")


def _compile(policy: Policy, rules: Rules) -> None:
    """Compiles every program that a request may need, and says how long a call takes."""
    for real_time in (False, True) if rules.horizon else (False,):
        for scale, first, later in warm_up(policy, scales_to_compile(rules), real_time):
            times = f"ready after {first:.1f} s, {1e3 * later:.1f} ms per call"
            _say(f"guidance {scale:g}{' in real time' * real_time}: {times}")


def _rules(given: argparse.Namespace, policy: Policy) -> Rules:
    """What requests may be, from the flags; without a range, what the operator chose is fixed."""
    guidance, steps = given.guidance, given.num_flow_steps
    return Rules(
        robot=policy.robot,
        layouts=layouts_of(policy.robot, given.layout),
        default=Sampling(guidance, steps),
        guidance=given.guidance_range or (guidance, guidance),
        num_flow_steps=given.num_flow_steps_range or (steps, steps),
        network_side=policy.transforms.image_size,
        default_prompt=given.default_prompt,
        image_side=given.max_image_side,
        seeds=not given.no_request_seeds,
        horizon=policy.model.config.action_horizon if given.real_time else 0,
    )


def _listening(given: argparse.Namespace) -> Listening:
    key = os.environ.get(KEY_VARIABLE, "")
    if given.api_key_file:
        key = read_text(given.api_key_file).strip()
        if not key:
            raise InputError(f"{given.api_key_file}: expected an API key, the file is empty")
    return Listening(given.host, given.port, key, given.no_api_key, given.tls_cert, given.tls_key)


def _limits(given: argparse.Namespace) -> Limits:
    return Limits(given.max_message_mib * 2**20, given.max_clients, given.max_queue)


def _check_port(listening: Listening) -> None:
    """Checks that the port is free, before minutes of loading and compiling.

    Raises:
        OSError: it is taken, or the host is none of this machine.
    """
    family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
    try:
        socket.create_server((listening.host, listening.port), family=family).close()
    except OSError as error:
        place = f"{listening.host}:{listening.port}"
        raise OSError(
            f"cannot listen on {place}: {first_line(error)}; choose another --port"
        ) from error


def _check_packages() -> None:
    """Checks that the extra is installed."""
    with needed("a policy server", INSTALL):
        import pi0_jax.serve.server  # noqa: F401


def _say(text: str) -> None:
    """A line for the operator."""
    sys.stderr.write(f"[{time.strftime('%H:%M:%S')}] {text}\n")
    sys.stderr.flush()


def _log(line: Mapping[str, Any]) -> None:
    """A line for a machine: JSON, with the time in Unix seconds.

    Raises:
        OSError: it cannot be written.
    """
    if sys.stdout is None:  # as Python has it where a program is started without one
        raise OSError("there is no standard output")
    sys.stdout.write(json.dumps({"time": round(time.time(), 3), **line}) + "\n")
    sys.stdout.flush()
