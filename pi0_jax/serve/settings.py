"""How a server is operated: where it listens, who may speak to it, and how much."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pi0_jax.errors import InputError
from pi0_jax.ranges import check_ranges

KEY_VARIABLE = "PI0_JAX_API_KEY"
"""The environment variable with the API key, of servers and of their clients."""

INSTALL = "pip install -e '.[serve]'"
"""What installs the packages of servers and of their clients."""

_SHORTEST_KEY = 16  # characters


@dataclass(frozen=True)
class Limits:
    """What a client may ask of the server; more is an error to that client alone.

    Attributes:
        message_bytes: longest message.
        clients: connections at a time.
        queue: requests that may wait for the policy.
        ping_s: seconds between the questions whether a client is still there, and seconds that it
            has to answer.
        drain_s: seconds that requests in progress have after SIGTERM.
    """

    message_bytes: Annotated[int, "[1024, 1e11]"] = 2**25
    clients: Annotated[int, "[1, 1e5]"] = 64
    queue: Annotated[int, "[1, 1e6]"] = 64
    ping_s: Annotated[float, "[0.1, 1e6]"] = 20.0
    drain_s: Annotated[float, "[0, 1e6]"] = 60.0

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            InputError: named field.
        """
        check_ranges("limits", self)


@dataclass(frozen=True)
class Listening:
    """Where a server listens, and who may speak to it.

    Attributes:
        host: address or name of the interface.
        port: 0 for any that is free.
        api_key: what clients send as "Authorization: Api-Key KEY"; "" for none.
        open_to_all: no key although the host can be reached from elsewhere.
        certificate: file of the TLS certificate (PEM); None for no TLS.
        private_key: file of its key (PEM).
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str = field(default="", repr=False)
    open_to_all: bool = False
    certificate: Path | None = None
    private_key: Path | None = None

    def __post_init__(self) -> None:
        """Checks that nobody else is let in by mistake.

        Raises:
            InputError: a host beyond loopback without a key, a key that is short, or one of the two
                TLS files without the other.
        """
        if not 0 <= self.port < 2**16:
            raise InputError(f"port must be from 0 to 65535, got {self.port}")
        if not self.api_key and not self.open_to_all and not is_loopback(self.host):
            raise InputError(
                f"host {self.host!r} can be reached from other machines: give an API key "
                "(--api-key-file FILE or PI0_JAX_API_KEY), or say --no-api-key"
            )
        if self.api_key and (len(self.api_key) < _SHORTEST_KEY or not self.api_key.isascii()):
            raise InputError(f"an API key must be at least {_SHORTEST_KEY} ASCII characters")
        if (self.certificate is None) != (self.private_key is None):
            raise InputError("TLS needs both files: --tls-cert FILE and --tls-key FILE")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
