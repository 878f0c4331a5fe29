"""What --config may name: a packaged config, a file of Python or YAML, an earlier run."""

import json
import subprocess
import sys

import pytest

from pi0_jax.apps.config_file import load_config, packaged
from pi0_jax.apps.settings import train_settings
from pi0_jax.errors import InputError

DEMO = load_config("demo")


def test_a_packaged_config_by_its_name():
    assert packaged() == ["aloha", "demo", "finetune", "libero"]
    assert list(load_config("demo:full").baselines) == ["continued_sft", "filtered_bc"]
    assert load_config("libero:suite=libero_goal,preset=tpu8").hardware.fsdp == 8


def test_a_file_of_python(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from pi0_jax.configs import demo\n"
        "def get_config(seed='1'):\n"
        "    config = demo.get_config()\n"
        "    config.seed = int(seed)\n"
        "    return config\n"
    )
    assert load_config(str(tmp_path / "mine.py")).seed == 1
    assert load_config(f"{tmp_path / 'mine.py'}:7").seed == 7


def test_the_config_json_of_a_run_gives_the_same_settings(tmp_path):
    beside = {"checkpoint": "/p", "demonstrations_digest": "x", "served_policy": {"rows": 8}}
    stored = beside | DEMO.to_dict()
    (tmp_path / "config.json").write_text(json.dumps({"command": ["x"], "config": stored}))
    found = load_config(str(tmp_path / "config.json"))
    assert found.to_dict() == DEMO.to_dict()
    assert train_settings(found) == train_settings(DEMO)


def test_a_run_of_an_earlier_version_has_the_defaults_of_new_keys(tmp_path):
    stored = DEMO.to_dict()
    del stored["verbosity"], stored["sft"]["log_every"], stored["task"]["demonstrator"]["speed"]
    (tmp_path / "config.json").write_text(json.dumps({"config": stored}))
    assert load_config(str(tmp_path / "config.json")).to_dict() == DEMO.to_dict()


def test_yaml_states_differences_from_a_base(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "base: demo\nseed: 3\nrl.cfg.alpha: 1\nrl.optimizer.learning_rate: 1e-3\n"
        "rl.groups.group_size: 4\neval:\n  episodes: 20\n  guidance: [1.0, 2.0]\n"
        "baselines:\n  none: {cfg: {alpha: 0.0}}\n"
    )
    (tmp_path / "b.yaml").write_text("base: a.yaml\nrl.groups.group_size: 6\n")
    found, further = (load_config(str(tmp_path / name)) for name in ("a.yaml", "b.yaml"))
    assert (found.seed, found.rl.groups.group_size, found.eval.episodes) == (3, 4, 20)
    assert (found.rl.optimizer.learning_rate, found.eval.guidance) == (1e-3, (1.0, 2.0))
    assert (found.rl.cfg.alpha, type(found.rl.cfg.alpha)) == (1.0, float)
    assert found.eval.first_seed == DEMO.eval.first_seed
    assert list(found.baselines) == ["continued_sft", "none"]
    assert (further.seed, further.rl.groups.group_size) == (3, 6)


def test_yaml_without_a_base_starts_from_the_defaults(tmp_path):
    (tmp_path / "a.yaml").write_text("suite: scripted\nmodel: tiny\ntask.speed: 0.2\n")
    found = load_config(str(tmp_path / "a.yaml"))
    assert (found.task.speed, found.task.max_steps, found.rows) == (0.2, 24, 8)
    with pytest.raises(InputError, match=r"config key .* is missing; set it"):
        train_settings(found)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.py", None, "--config: no such file: .*none.py"),
        ("none.yaml", None, "--config: no such file: .*none.yaml"),
        ("x.py", "def get_config():\n    return (\n", "x.py"),
        ("x.py", "import nothing_of_that_name\n", "x.py: No module named 'nothing_of_that_name'"),
        ("x.py", "def get_config():\n    raise RuntimeError('boom')\n", "x.py: RuntimeError: boom"),
        ("x.py", "raise SystemExit(0)\n", "x.py: SystemExit: 0"),
        ("x.py", "def get_config(): pass\n", "get_config must return a ConfigDict, got None"),
        ("x.py", "a = 1\n", "x.py.* has no attribute 'get_config'"),
        ("x.json", "{}", "x.json: expected the config.json of a run"),
        ("x.json", "no", "x.json: expected JSON: Expecting value"),
        ("x.yaml", "- 1\n", r"x.yaml: expected keys and values, got \[1\]"),
        ("x.yaml", "a: [\n", "x.yaml"),
        ("x.yaml", "seed: 1\n", "config key suite is missing; set it"),
        ("x.yaml", "base: nothing\n", "no such file|expected one of aloha, demo, finetune, libero"),
        ("x.yaml", "base: demo\nrl: 3\n", "config key 'rl' is a section of several keys"),
        (
            "x.toml",
            "",
            "demo, finetune, libero, or a file that ends in .py, .yaml or .json",
        ),
        ("x.yaml:3", "", "takes no argument, got '3'"),
    ],
)
def test_mistakes_are_one_line(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name.split(":")[0]).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_config(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_misspelt_key_of_a_file_is_named_with_the_nearest(tmp_path):
    (tmp_path / "x.yaml").write_text("base: demo\nrl.groups.grop_size: 4\n")
    with pytest.raises(InputError, match=r"rl\.groups\.grop_size; .* is rl\.groups\.group_size"):
        train_settings(load_config(str(tmp_path / "x.yaml")))
    (tmp_path / "x.yaml").write_text("base: demo\nrl.groups.group_size: many\n")
    with pytest.raises(InputError, match=r"rl\.groups\.group_size must be a whole number, got 'm"):
        train_settings(load_config(str(tmp_path / "x.yaml")))


def test_loading_a_config_imports_no_simulator():
    code = (
        "import sys; from pi0_jax.apps.config_file import load_config; load_config('demo'); "
        "print('mujoco' in sys.modules, 'robosuite' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False False\n", done.stderr
