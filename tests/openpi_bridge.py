"""Runs where openpi-client is installed: passes observations on to its client, and answers back.

python openpi_bridge.py PORT

Standard input and output hold .npz files, each after its length in 8 bytes.
"""

import io
import sys

import numpy as np


def read_arrays(stream):
    """The next file of a stream as a dictionary; None at its end."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    content = stream.read(int.from_bytes(head, "big"))
    return dict(np.load(io.BytesIO(content)))


def write_arrays(stream, **arrays):
    """Writes a file with its length."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    stream.write(len(content.getvalue()).to_bytes(8, "big") + content.getvalue())
    stream.flush()


def main(port):
    """As `examples/libero/main.py`, with the simulator at the other end of a pipe."""
    # Here, because the tests import this file for its pipe and have no openpi-client.
    from openpi_client.websocket_client_policy import WebsocketClientPolicy

    policy = WebsocketClientPolicy("127.0.0.1", port)
    while (obs := read_arrays(sys.stdin.buffer)) is not None:
        prompt = str(obs.pop("prompt"))
        write_arrays(sys.stdout.buffer, actions=policy.infer({**obs, "prompt": prompt})["actions"])


if __name__ == "__main__":
    main(int(sys.argv[1]))
