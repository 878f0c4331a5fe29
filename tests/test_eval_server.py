"""eval.py --server: the results and the bits of an evaluation in this process."""

import contextlib
import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from ml_collections import ConfigDict
from servers import ROWS, STEPS, running, service
from tiny import policy_folder
from websockets.sync.client import connect
from websockets.sync.server import serve

from pi0_jax.apps import evaluate
from pi0_jax.apps.cli import Arguments, parse
from pi0_jax.apps.config_file import load_config
from pi0_jax.errors import InputError
from pi0_jax.io.episodes import load_episodes
from pi0_jax.policy.folder import save_policy
from pi0_jax.policy.policy import Policy
from pi0_jax.serve import client
from pi0_jax.serve.client import open_policy_at
from pi0_jax.serve.settings import KEY_VARIABLE, Listening
from pi0_jax.testing import raw_obs

CONFIG = f"""
from ml_collections import ConfigDict

def get_config():
    values = {{"suite": "scripted", "rows": {ROWS}, "verbosity": 0}}
    values["pool"] = {{"workers": 2, "timeout_s": 20.0}}
    values["task"] = {{"image_size": 24, "max_steps": 9, "tolerance": 0.5}}
    values["eval"] = {{"episodes": 10, "first_seed": 0, "num_flow_steps": {STEPS}, "videos": 0}}
    values["eval"] |= {{"guidance": (1.0, 2.0), "execute_steps": 2}}
    return ConfigDict(values)
"""


@pytest.fixture(scope="module")
def folder(params):
    return policy_folder(params)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "config.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def up(folder):
    policy = Policy.from_folder(folder, num_flow_steps=STEPS, rows=ROWS)
    with running(service(policy, folder)) as found:
        yield found


def arguments(config, out, **source) -> Arguments:
    return Arguments(load_config(str(config)), out, resume=False, **source)


def test_results_and_actions_are_those_of_this_process(folder, config, up, tmp_path):
    save_policy(tmp_path / "policy", folder, {})
    here, there = tmp_path / "here", tmp_path / "there"
    evaluate.main(arguments(config, here, checkpoint=tmp_path / "policy"))
    evaluate.main(arguments(config, there, server=up.uri))
    found = [json.loads((out / "results.json").read_text()) for out in (here, there)]
    assert [r["rows"] for r in found] == [found[0]["rows"]] * 2
    assert 0 < found[0]["rows"][0]["successes"] < 10
    assert found[1]["protocol"]["server"]["rows"] == ROWS
    for name in ("policy_1", "policy_2"):
        one, two = (load_episodes(out / f"episodes/eval/{name}.npz") for out in (here, there))
        assert [(e.seed, e.success, len(e)) for e in one] == [
            (e.seed, e.success, len(e)) for e in two
        ]
        for a, b in zip(one, two, strict=True):
            np.testing.assert_array_equal(a.actions, b.actions)
    # Several observations were ready together and shared calls.
    assert max(line.get("batch", 0) for line in up.lines) > 1


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"rows": 8}, "called with 4 rows, config.rows is 8"),
        (
            {"eval": {"guidance": (5.0,)}},
            "it allows guidance from 0 to 3, and 5 is wanted; .*-range",
        ),
        ({"eval": {"num_flow_steps": 30}}, "start it with --num-flow-steps-range"),
        ({"eval": {"reference": "base"}}, "leads away from 'unconditional'"),
        ({"eval": {"execute_steps": 5}}, "between 1 and the action horizon 4"),
        ({"suite": "lift"}, "gripper is .none. for the policy"),
    ],
)
def test_what_does_not_fit_shows_before_anything_is_written(config, up, tmp_path, changes, match):
    given = arguments(config, tmp_path / "out", server=up.uri)
    given.config.update(changes)
    if "suite" in changes:
        given.config.task = ConfigDict()
    with pytest.raises(InputError, match=match):
        evaluate.main(given)
    assert not (tmp_path / "out").exists()


def test_a_server_that_ends_is_one_line(folder, config):
    policy = Policy.from_folder(folder, num_flow_steps=STEPS, rows=ROWS)
    with running(service(policy, folder)) as up, open_policy_at(up.uri, 1) as served:
        up.end()
        with pytest.raises(ConnectionError, match=r"the connection has ended"):
            for _ in range(1000):
                served.act_seeded([raw_obs(served.robot)], [(0,)])


def test_servers_that_differ_behind_one_address(folder, up, monkeypatch):
    """As a balancer does it: the second connection leads to another server."""
    policy = Policy.from_folder(folder, num_flow_steps=STEPS, rows=ROWS)
    with running(service(policy, folder, guidance=(0.0, 2.0), horizon=4)) as other:
        uris = iter([up.uri, other.uri])
        monkeypatch.setattr(client, "connect", lambda uri, **rest: connect(next(uris), **rest))
        differ = pytest.raises(InputError, match=r"differ in guidance_limits, real_time; give")
        with differ, open_policy_at("ws://balancer:8000", 2):
            pass


def test_a_server_that_ends_before_it_says_what_it_is_is_one_line():
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serve(lambda ws: ws.close(1001, "ends"), "127.0.0.1", 0))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.shutdown)  # before the thread is waited for
        uri = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        ended = pytest.raises(ConnectionError, match=r"the connection has ended .*1001.* ends")
        with ended, open_policy_at(uri, 1):
            pass


def test_what_is_refused_is_one_line(up):
    with open_policy_at(up.uri, 1) as served:
        short = replace(raw_obs(served.robot), state=np.zeros(3, np.float32))
        with pytest.raises(ConnectionError, match="expected a state of 8 numbers"):
            served.act_seeded([short], [(0,)])
        hidden = replace(raw_obs(served.robot), camera_mask=np.arange(2) > 0)
        with pytest.raises(InputError, match="camera_mask that hides a camera"):
            served.act_seeded([hidden], [(0,)])


def test_a_key(folder, config, monkeypatch, tmp_path):
    policy = Policy.from_folder(folder, num_flow_steps=STEPS, rows=ROWS)
    key = "a key of the tests"
    with running(service(policy, folder, listening=Listening(port=0, api_key=key))) as up:
        monkeypatch.delenv(KEY_VARIABLE, raising=False)
        with pytest.raises(InputError, match="401 expected"):
            evaluate.main(arguments(config, tmp_path / "out", server=up.uri))
        with open_policy_at(up.uri, 1, key) as served:
            assert served.robot == folder.spec.robot


def test_no_server(config, tmp_path):
    with pytest.raises(OSError, match="refused"):
        evaluate.main(arguments(config, tmp_path / "out", server="ws://127.0.0.1:1"))
    with pytest.raises(InputError, match="expected a policy server such as ws://"):
        evaluate.main(arguments(config, tmp_path / "out", server="127.0.0.1:8000"))


def test_one_of_the_two_flags(config, tmp_path):
    rest = [f"--config={config}", f"--workdir={tmp_path}"]
    found = parse(["eval.py", *rest, "--server=ws://x:1"], checkpoint=True)
    assert (found.server, found.checkpoint) == ("ws://x:1", None)
    with pytest.raises(InputError, match="expected one of them"):
        parse(["eval.py", *rest, "--server=ws://x:1", "--checkpoint=p"], checkpoint=True)
    with pytest.raises(InputError, match="--checkpoint is missing"):
        parse(["eval.py", *rest], checkpoint=True)
