"""What the live page shows: each client's last observation, its chunk, and its latencies.

Axis letters: c camera, h height, w width, H action horizon, e robot's action dimension.
"""

import base64
import io
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from pi0_jax.episode import RawObs
from pi0_jax.robot import Robot
from pi0_jax.serve.batcher import Answer

_HISTORY = 100  # requests whose latencies are shown
_THUMBNAIL = 160  # px


@dataclass
class Client:
    """A connection, as the server and the page see it.

    Attributes:
        number: of the connection, counted from 0 since the server began.
        peer: address and port.
        since: Unix seconds.
        requests: answered or refused so far; the next one's number.
        busy: whether a request is in progress.
        obs: of the last request.
        answer: to the last request.
        total_ms: of the last requests, from received to sent.
    """

    number: int
    peer: str
    since: float = field(default_factory=time.time)
    requests: int = 0
    busy: bool = False
    obs: RawObs | None = None
    answer: Answer | None = None
    total_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_HISTORY))


def snapshot(clients: Iterable[Client], robot: Robot, rows: int) -> dict[str, Any]:
    """The page's data, as plain values for JSON."""
    return {
        "time": time.time(),
        "rows": rows,
        "actions": [dimension.name for dimension in robot.actions],
        "clients": [_client(client, robot) for client in clients],
    }


def _client(client: Client, robot: Robot) -> dict[str, Any]:
    obs, answer = client.obs, client.answer
    found: dict[str, Any] = {
        "number": client.number,
        "peer": client.peer,
        "since": client.since,
        "requests": client.requests,
        "busy": client.busy,
        "total_ms": [round(ms, 2) for ms in client.total_ms],
    }
    if obs is not None:
        found |= {"prompt": obs.prompt, "state": _plain(obs.state), "cameras": _cameras(obs, robot)}
    if answer is not None:
        found |= {
            "actions": _plain(answer.actions),
            "infer_ms": round(answer.infer_ms, 2),
            "queue_ms": round(answer.queue_ms, 2),
            "batch": answer.batch,
        }
    return found


def _cameras(obs: RawObs, robot: Robot) -> list[dict[str, str]]:
    """Name and picture of every camera that was there."""
    there = obs.camera_mask if obs.camera_mask is not None else [True] * len(obs.images)
    return [
        {"name": name, "picture": _data_uri(image)}
        for name, image, shown in zip(robot.cameras, obs.images, there, strict=True)
        if shown
    ]


def _data_uri(image: np.ndarray) -> str:
    """uint8[h, w, 3] as a small JPEG in a text."""
    small, buffer = Image.fromarray(image), io.BytesIO()
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    small.save(buffer, "jpeg", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _plain(array: np.ndarray) -> list[Any]:
    return np.round(array.astype(np.float64), 4).tolist()
