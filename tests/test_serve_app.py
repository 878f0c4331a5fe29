"""serve.py as a process: what it says, what it refuses, and how it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from servers import Client, observation, panda_folder

from pi0_jax.apps import serve
from pi0_jax.apps.serve import status
from pi0_jax.errors import InputError
from pi0_jax.policy.folder import save_policy
from pi0_jax.serve.client import open_policy_at
from pi0_jax.serve.settings import KEY_VARIABLE

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("serve") / "policy"
    save_policy(path, panda_folder(), {})
    return path


def test_it_serves_until_sigterm_and_exits_0(folder):
    command = [sys.executable, "serve.py", f"--checkpoint={folder}", "--port=0", "--rows=4"]
    process = subprocess.Popen(
        [*command, "--num-flow-steps=2", "--guidance-range=1,2", "--default-prompt=lift",
         "--real-time", "--no-request-seeds"],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    said = ""
    for line in process.stderr:
        said += line
        if "listening" in line:
            break
    port = int(re.search(r"listening on ws://127.0.0.1:(\d+)", said)[1])
    with Client(f"ws://127.0.0.1:{port}") as client:
        sent = observation()
        del sent["prompt"]
        assert client.infer(sent)["actions"].shape == (4, 7)
        assert client.metadata["pi0_jax"]["guidance_limits"] == [1, 2]
        # Compiled before it listened: no call takes as long as a compilation.
        assert client.infer(sent | {"guidance": 2})["policy_timing"]["infer_ms"] < 1000
        asked = {"previous_actions": np.zeros((2, 7)), "frozen_actions": 1}
        assert client.infer(sent | asked)["policy_timing"]["infer_ms"] < 1000
        refused = pytest.raises(InputError, match="without --no-request-seeds")
        with refused, open_policy_at(f"ws://127.0.0.1:{port}", 1):
            pass
        process.send_signal(signal.SIGTERM)
        out, rest = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    assert "ended" in rest
    for words in (
        "agentview (observation/image)", "state         8: x, y, z", "actions       7: x, y, z",
        "4 actions, of which 3", "z-scores", "1 from unconditional, requests: 1 to 2",
        "device        cpu", "guidance 1: ready after", "guidance 2: ready after", "ms per call",
        "seed          of the connection", "guidance 2 in real time: ready after",
    ):  # fmt: skip
        assert words in said
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["event"] for line in lines] == [
        "connected", "request", "request", "request", "connected", "disconnected", "disconnected",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        (["--port", "70000"], "port must be from 0 to 65535"),
        (["--host", "0.0.0.0"], "give an API key"),
        (["--tls-cert", "x.pem"], "TLS needs both files"),
        (["--guidance-range", "2,3"], "'guidance': expected 2 to 3"),
        (["--guidance-range", "3,2"], "expected two numbers such as 0,3"),
        (["--num-flow-steps-range", "0,5"], "expected two numbers such as 5,20"),
        (["--rows", "0"], "policy.rows must be a whole number in [1, 1e5]"),
        (["--guidance", "2", "--reference", "none"], "guidance 2 needs a reference"),
        (["--reference", "base"], "carries none"),
        (["--layout", "aloha"], "has 3 cameras"),
        (["--max-clients", "0"], "limits.clients must be a whole number in [1, 1e5]"),
        (["--wait-ms", "-1"], "expected 0 to 1000 milliseconds"),
        (["--seed", str(2**64)], "expected a whole number from 0 to 2**64 - 1"),
        (["--seed", "9" * 5000], "expected a whole number from 0 to 2**64 - 1"),
        (["--chekpoint", "x"], "unrecognized arguments"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(folder, capsys, flags, match):
    assert status(["--checkpoint", str(folder), *flags]) == 2
    said = capsys.readouterr().err.splitlines()
    assert match in said[-1]
    assert said[-1].startswith("error: ")


def test_a_short_key(folder, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv(KEY_VARIABLE, "short")
    assert status(["--checkpoint", str(folder), "--host", "0.0.0.0"]) == 2
    assert "at least 16 ASCII characters" in capsys.readouterr().err
    (tmp_path / "key").write_text("\n")
    assert status(["--checkpoint", str(folder), "--api-key-file", str(tmp_path / "key")]) == 2
    assert "the file is empty" in capsys.readouterr().err


def test_a_port_that_is_taken_shows_before_the_weights_are_read(folder, capsys, monkeypatch):
    monkeypatch.setattr(serve, "load_with_reference", lambda *_: pytest.fail("reads the weights"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert status([f"--checkpoint={folder}", f"--port={port}"]) == 1
    said = capsys.readouterr().err
    assert re.fullmatch(rf"error: cannot listen on 127.0.0.1:{port}: .*; choose another.*\n", said)


@pytest.mark.parametrize("there", [True, False])
def test_a_log_that_cannot_be_written_is_an_os_error(monkeypatch, there):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full if there else None)
        with pytest.raises(OSError, match="No space left" if there else "no standard output"):
            serve._log({"event": "connected"})
        monkeypatch.undo()
        if there:
            # Python tries again when it closes the file.
            os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


def test_no_policy_folder(tmp_path, capsys):
    assert status(["--checkpoint", str(tmp_path)]) == 2
    assert "expected a policy folder" in capsys.readouterr().err
