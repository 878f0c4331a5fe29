"""The flags of pi0-serve."""

import argparse
import math

from pi0_jax.convert.commands.command import Parser, path
from pi0_jax.policy.policy import Policy
from pi0_jax.policy.reference import KINDS, Reference
from pi0_jax.serve.layouts import LAYOUTS
from pi0_jax.serve.request import MOST_SEED, Rules
from pi0_jax.serve.settings import Limits, Listening

_MIB = 2**20


def parser(description: str) -> Parser:
    """The parser of the command's flags; what they hold is checked where it is used."""
    found = Parser("pi0-serve", description)
    add = found.add_argument
    add("--checkpoint", type=path, required=True, metavar="POLICY", help="policy folder")
    add(
        "--reference",
        default=Reference.kind,
        metavar="NAME",
        help=f"what guidance leads away from: {', '.join(KINDS)}, or a policy folder",
    )
    add("--rows", type=int, default=Policy.rows, help="requests that share a call of the policy")
    add("--wait-ms", type=_duration, default=3.0, help="how long a request waits for others")
    add("--seed", type=_seed, default=0, help="of the noise of requests without a seed")
    add("--default-prompt", default="", metavar="TEXT", help="instruction of requests without one")
    add("--layout", choices=tuple(LAYOUTS), default="", help="keys; default: those of the robot")
    _add_sampling(found.add_argument_group("sampling, and what a request may ask for"))
    _add_listening(found.add_argument_group("where it listens, and to whom"))
    _add_limits(found.add_argument_group("limits of each client"))
    return found


def _add_sampling(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--guidance", type=float, default=Policy.guidance, help="guidance scale")
    add("--num-flow-steps", type=int, default=Policy.num_flow_steps, help="flow steps per chunk")
    add("--guidance-range", type=_numbers, metavar="LOW,HIGH", help="default: no other scale")
    add("--num-flow-steps-range", type=_wholes, metavar="LOW,HIGH", help="default: no other number")
    add("--no-request-seeds", action="store_true", help="requests may not choose their seed")
    add("--real-time", action="store_true", help="requests may continue the chunk before")


def _add_listening(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--host", default=Listening.host, help="beyond loopback an API key is needed")
    add("--port", type=int, default=Listening.port, help="0 for any that is free")
    add("--api-key-file", type=path, metavar="FILE", help="or PI0_JAX_API_KEY in the environment")
    add("--no-api-key", action="store_true", help="whoever reaches the host may use the policy")
    add("--tls-cert", type=path, metavar="FILE", help="certificate (PEM)")
    add("--tls-key", type=path, metavar="FILE", help="its private key (PEM)")


def _add_limits(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    mib = Limits.message_bytes // _MIB
    add("--max-message-mib", type=int, default=mib, help="longest message")
    add("--max-image-side", type=int, default=Rules.image_side, help="height and width [px]")
    add("--max-clients", type=int, default=Limits.clients, help="connections at a time")
    add("--max-queue", type=int, default=Limits.queue, help="requests that wait for the policy")


def _numbers(text: str) -> tuple[float, float]:
    """Two numbers, the second not below the first."""
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = math.nan
    if not 0 <= low <= high < math.inf:
        raise argparse.ArgumentTypeError(f"expected two numbers such as 0,3, got {text!r}")
    return low, high


def _wholes(text: str) -> tuple[int, int]:
    low, high = _numbers(text)
    if low % 1 or high % 1 or low < 1:
        raise argparse.ArgumentTypeError(f"expected two numbers such as 5,20, got {text!r}")
    return int(low), int(high)


def _seed(text: str) -> int:
    """A seed, as large as those of requests."""
    if not text.isdecimal() or len(text) > len(str(MOST_SEED)) or int(text) > MOST_SEED:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from 0 to 2**64 - 1, got {text!r}"
        )
    return int(text)


def _duration(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"expected 0 to 1000 milliseconds, got {text!r}")
    return value
