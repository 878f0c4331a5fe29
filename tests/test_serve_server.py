"""The server over real sockets: the policy's bits, pages, keys, the end."""

import json
import socket
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from servers import (
    PANDA,
    ROWS,
    Client,
    Slow,
    get,
    observation,
    panda_policy,
    running,
    service,
    until,
)
from skips import slow
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pi0_jax import testing
from pi0_jax.episode import RawObs
from pi0_jax.policy.folder import PolicyFolder
from pi0_jax.policy.ongoing import Ongoing
from pi0_jax.policy.policy import Policy
from pi0_jax.policy.spec import PolicySpec
from pi0_jax.robots import load_robot
from pi0_jax.serve import wire
from pi0_jax.serve.settings import Limits, Listening

KEY = "a key of the tests"


@pytest.fixture(scope="module")
def policy():
    return panda_policy()


@pytest.fixture(scope="module")
def up(policy):
    with running(service(policy)) as found:
        yield found


def raw(sent: dict) -> RawObs:
    images = np.stack([sent["observation/image"], sent["observation/wrist_image"]])
    return RawObs(images, sent["observation/state"].astype(np.float32), sent["prompt"])


def test_actions_are_those_of_the_policy(up, policy):
    sent = observation()
    with Client(up.uri) as client:
        for request in range(2):
            found = client.infer(sent)
            assert found["seed"][0] == 0
            assert found["seed"][2] == request
            wanted = policy.act_seeded([raw(sent)], [tuple(found["seed"])])[0]
            np.testing.assert_array_equal(found["actions"], wanted)
            assert found["actions"].dtype == np.float32
            assert ("prev_total_ms" in found["server_timing"]) == bool(request)
            assert found["policy_timing"]["infer_ms"] <= found["server_timing"]["infer_ms"]
        own = client.metadata["pi0_jax"]
    assert (own["rows"], own["action_horizon"]) == (ROWS, len(wanted))
    assert [d["name"] for d in own["robot"]["actions"]] == [d.name for d in PANDA.actions]


def test_a_seed_gives_the_same_bits_and_options_reach_the_policy(up, policy):
    sent = observation()
    with Client(up.uri) as client:
        one, two = (client.infer(sent | {"seed": 5}) for _ in range(2))
        strong = client.infer(sent | {"seed": 5, "guidance": 2.0, "num_flow_steps": 3})
    np.testing.assert_array_equal(one["actions"], two["actions"])
    np.testing.assert_array_equal(one["actions"], policy.act([raw(sent)], seed=5)[0])
    guided = replace(policy, guidance=2.0, num_flow_steps=3)
    np.testing.assert_array_equal(strong["actions"], guided.act([raw(sent)], seed=5)[0])


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(256, size=shape, dtype=np.uint8)


# What openpi's examples send (examples/droid/main.py, packages of ALOHA's runtime), and the order
# of its state.
MESSAGES = {
    "droid": {
        "observation/exterior_image_1_left": pixels(24, 24, 3),
        "observation/wrist_image_left": pixels(24, 24, 3),
        "observation/joint_position": np.linspace(-1, 1, 7),
        "observation/gripper_position": np.array([0.5]),
        "prompt": "lift it",
    },
    "aloha": {
        "images": {
            name: pixels(3, 24, 32)
            for name in ("cam_high", "cam_low", "cam_left_wrist", "cam_right_wrist")
        },
        "state": np.linspace(-0.5, 0.5, 14),
        "prompt": "lift it",
    },
}


def seen(name: str) -> RawObs:
    """The message as our own observation, by hand."""
    sent = MESSAGES[name]
    if name == "droid":
        images = [
            sent[f"observation/{key}"] for key in ("exterior_image_1_left", "wrist_image_left")
        ]
        state = np.append(np.linspace(-1, 1, 7), 0.5)
    else:
        views = ("cam_high", "cam_left_wrist", "cam_right_wrist")
        images = [np.moveaxis(sent["images"][key], 0, -1) for key in views]
        state = sent["state"]
    return RawObs(np.stack(images), state.astype(np.float32), "lift it")


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_robots_of_openpis_examples(name):
    robot = load_robot(name)
    config = replace(testing.CONFIG, action_dim=14)
    spec = PolicySpec(config, robot, execute_steps=3, tokenizer="bytes")
    folder = PolicyFolder(spec, testing.random_params(config=config), testing.plain_stats(robot))
    policy = Policy.from_folder(folder, num_flow_steps=2)
    with running(service(policy, folder)) as up, Client(up.uri) as client:
        assert ("reset_pose" in client.metadata) == (name == "aloha")
        found = client.infer(MESSAGES[name])
    wanted = policy.act_seeded([seen(name)], [tuple(found["seed"])])[0]
    np.testing.assert_array_equal(found["actions"], wanted)
    assert found["actions"].shape == (4, len(robot.actions))


def test_a_request_that_continues_a_chunk(policy):
    real_time = service(policy, horizon=policy.model.config.action_horizon)
    with running(real_time) as up, Client(up.uri) as client:
        assert client.metadata["pi0_jax"]["real_time"]
        before = client.infer(observation() | {"seed": 1})["actions"]
        asked = {"previous_actions": before[1:], "frozen_actions": 2, "seed": 2}
        found = client.infer(observation() | asked)["actions"]
    np.testing.assert_array_equal(found[:2], before[1:3])
    ongoing = [Ongoing(before[1:], 2)]
    np.testing.assert_array_equal(
        found, policy.act([raw(observation())], seed=2, ongoing=ongoing)[0]
    )


def test_many_clients_at_once_get_what_each_gets_alone(up, policy):
    sent = [observation(seed) | {"seed": seed} for seed in range(6)]

    def several(one: dict) -> list[np.ndarray]:
        with Client(up.uri) as client:
            return [client.infer(one)["actions"] for _ in range(5)]

    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(several, sent))
    for one, answers in zip(sent, found, strict=True):
        alone = policy.act([raw(one)], seed=one["seed"])[0]
        for answer in answers:
            np.testing.assert_array_equal(answer, alone)


# More than twice as long as a client may be silent; the slow one with the limits of a real server.
@pytest.mark.parametrize(
    ("seconds", "limits"), [(2.5, Limits(ping_s=1.0)), pytest.param(60.0, Limits(), marks=slow)]
)
def test_health_and_pings_answer_during_a_long_call(policy, seconds, limits):
    gate = threading.Event()
    with (
        running(service(Slow(policy, gate), limits=limits)) as up,
        Client(up.uri) as client,
        Client(up.uri) as other,
    ):
        client.ws.send(wire.pack(observation()))
        until(up.busy)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert get(up.uri + "/healthz") == (200, b"OK\n")
            assert other.ws.ping().wait(5)
        assert b"pi0_clients 2.0" in get(up.uri + "/metrics")[1]
        gate.set()
        assert wire.unpack(client.received())["actions"].shape == (4, 7)


def test_a_web_page_of_another_origin_gets_nothing(up):
    with pytest.raises(InvalidStatus, match="403"):
        Client(up.uri, origin="https://somewhere.example")


def test_pages(up):
    with Client(up.uri) as client:
        client.infer(observation())
        live = json.loads(get(up.uri + "/live.json")[1])
        (shown,) = [one for one in live["clients"] if one.get("prompt") == "lift it"][-1:]
        assert [camera["name"] for camera in shown["cameras"]] == list(PANDA.cameras)
        assert np.shape(shown["actions"]) == (4, 7)
    status, body = get(up.uri + "/")
    assert status == 200
    assert b"<!doctype html>" in body.lower()
    assert get(up.uri + "/elsewhere")[0] == 426
    numbers = get(up.uri + "/metrics")[1].decode()
    assert 'pi0_requests_total{outcome="ok"}' in numbers
    assert "pi0_batch_requests_bucket" in numbers
    assert "process_open_fds" in numbers


def test_a_key_is_asked_for(policy):
    with running(service(policy, listening=Listening(port=0, api_key=KEY))) as up:
        for wrong in ({}, {"Authorization": "Api-Key another"}, {"Authorization": KEY}):
            with pytest.raises(InvalidStatus, match="401"):
                Client(up.uri, additional_headers=wrong)
        with Client(up.uri, additional_headers={"Authorization": f"Api-Key {KEY}"}) as client:
            assert client.infer(observation())["actions"].shape == (4, 7)
        assert get(up.uri + "/healthz")[0] == 200
        assert [get(up.uri + path)[0] for path in ("/", "/live.json", "/metrics")] == [401] * 3
        assert get(up.uri + "/metrics", Authorization=f"Bearer {KEY}")[0] == 200
        for odd in ("Basic \xe9", "Basic YQ", "Api-Key \xe9"):
            assert get(up.uri + "/metrics", Authorization=odd)[0] == 401
        with socket.create_connection(("127.0.0.1", up.port)) as stranger:
            twice = b"Authorization: Api-Key x\r\n" * 2
            stranger.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n" + twice + b"\r\n")
            assert stranger.recv(12) == b"HTTP/1.1 401"


def test_tls(policy, tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    listening = Listening(port=0, certificate=certificate, private_key=key)
    trusting = ssl.create_default_context(cafile=certificate)
    with running(service(policy, listening=listening)) as up:
        uri = up.uri.replace("ws:", "wss:")
        with Client(uri, ssl=trusting) as client:
            assert client.infer(observation())["actions"].shape == (4, 7)


def test_the_end_answers_what_is_in_progress(policy):
    gate = threading.Event()
    with running(service(Slow(policy, gate))) as up:
        idle, busy = Client(up.uri), Client(up.uri)
        busy.ws.send(wire.pack(observation()))
        until(up.busy)
        up.end()
        with pytest.raises(ConnectionClosed, match=r"1001.*shuts down"):
            idle.ws.recv(timeout=20)
        with pytest.raises(ConnectionRefusedError):
            Client(up.uri)
        gate.set()
        assert wire.unpack(busy.received())["actions"].shape == (4, 7)
        with pytest.raises(ConnectionClosed, match=r"1001.*shuts down"):
            busy.ws.recv(timeout=20)


def test_the_end_does_not_wait_for_ever(policy):
    gate = threading.Event()
    with running(service(Slow(policy, gate), limits=Limits(drain_s=0.1, ping_s=0.2))) as up:
        client = Client(up.uri)
        client.ws.send(wire.pack(observation()))
        until(up.busy)
        up.end()
        with pytest.raises(ConnectionClosed, match="1001"):
            client.ws.recv(timeout=20)
        gate.set()


def test_a_line_per_request(up):
    with Client(up.uri) as client:
        client.infer(observation() | {"seed": [1, 2]})

    def mine() -> list:
        return [line for line in list(up.lines) if line.get("seed") == [1, 2]]

    until(mine)
    (line,) = mine()
    assert line.keys() >= {"client", "request", "bytes", "queue_ms", "infer_ms", "batch"}
    assert line["outcome"] == "ok"
    assert line["total_ms"] >= line["infer_ms"]
