"""Plain HTTP on the server's port: health, metrics and the live page; and who may come in."""

import base64
import hmac
import json
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from pi0_jax.serve.metrics import Metrics

_PAGE = Path(__file__).parent / "page.html"
# The page needs nothing from elsewhere, and nobody may frame it.
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; frame-ancestors 'none'"
)


def wants_websocket(request: Request) -> bool:
    """Whether a request asks for the protocol, and not for a page."""
    return "websocket" in _header(request, "Upgrade").lower()


def may_enter(request: Request, api_key: str) -> bool:
    """Whether a request shows the key, or none is needed.

    openpi's clients say "Api-Key KEY", Prometheus "Bearer KEY", a browser asks for a user (any) and
    a password (the key) and says "Basic ...".
    """
    if not api_key:
        return True
    kind, _, shown = _header(request, "Authorization").partition(" ")
    if kind.lower() == "basic":
        shown = _password(shown)
    elif kind.lower() not in ("api-key", "bearer"):
        shown = ""
    # Takes as long for a wrong key as for the right one, so that time tells nothing.
    return hmac.compare_digest(shown.strip().encode(), api_key.encode())


def locked() -> Response:
    """The answer to a request without the key."""
    text = 'expected "Authorization: Api-Key KEY" with the key of this server\n'
    asks = ("WWW-Authenticate", 'Basic realm="pi0_jax"')
    return answer(HTTPStatus.UNAUTHORIZED, text.encode(), "text/plain", asks)


def answer(
    status: HTTPStatus, body: bytes, content_type: str, *headers: tuple[str, str]
) -> Response:
    """An HTTP response with a body."""
    fixed = {
        "Content-Type": f"{content_type}; charset=utf-8",
        "Content-Length": str(len(body)),
        "Connection": "close",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": _POLICY,
    }
    return Response(status.value, status.phrase, Headers([*fixed.items(), *headers]), body)


def page(path: str, metrics: Metrics, snapshot: Callable[[], dict[str, Any]]) -> Response | None:
    """What is at a path; None where nothing is.

    Args:
        path: of the request, without its query.
        metrics: for /metrics.
        snapshot: data of the live page.
    """
    match path:
        case "/metrics":
            return answer(HTTPStatus.OK, metrics.text(), "text/plain; version=0.0.4")
        case "/":
            return answer(HTTPStatus.OK, _PAGE.read_bytes(), "text/html")
        case "/live.json":
            return answer(HTTPStatus.OK, json.dumps(snapshot()).encode(), "application/json")
    return None


def _header(request: Request, name: str) -> str:
    """A header's value; one that comes twice is a list, and one that is not there is ""."""
    return ", ".join(request.headers.get_all(name))


def _password(shown: str) -> str:
    try:
        return base64.b64decode(shown, validate=True).decode().partition(":")[2]
    except ValueError:  # not of base64's letters, not of any ASCII, or no UTF-8
        return ""
