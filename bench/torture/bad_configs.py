"""Configs that cannot be: values on the command line of train.py and eval.py, and config files."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from pi0_jax.apps import cli, evaluate, train
from pi0_jax.apps.config_file import load_config
from pi0_jax.plain_values import dotted_values
from pi0_jax.run import folder
from torture.refusals import Case

_CONFIG = ("--config=demo", "--config.suite=scripted", "--config.task={}")
# By the kind of a key's default; bool before int, of which it is one.
_ODD: tuple[tuple[type, tuple[str, ...]], ...] = (
    (bool, ("2", "word")),
    (int, ("nan", "-1e300", "0.5", "word")),
    (float, ("nan", "inf", "-1e300", "word")),
    (tuple, ("('word',)", "(None,)", "(float('nan'),)")),
)
_EVALUATED = ("eval.", "pool.", "seed", "rows", "verbosity")
VALUES = (
    *("model=huge", "model=", "suite=lift2", "execute_steps=-1", "execute_steps=1000"),
    *("seed=-1", "seed=1000000000000", "seed=99999999999999999999999", "rows=0", "verbosity=3"),
    *("task.image_size=100000", "task.tolerance=nan", "task.speed=inf", "task.name=a/b"),
    *("task.name=../up", "task={'speeed':1}", "task.demonstrator.offset_sigma=-1"),
    *("task.demonstrator.speed=(1.0,0.5)", "task={'demonstrator':3}"),
    *("init.checkpoint=nowhere", "init.statistics=mine", "init.checkpoint=/dev/null"),
    *("demonstrations.lerobot=nowhere", "demonstrations.lerobot=/dev/null"),
    *("demonstrations.episodes=-1", "demonstrations.std_floor=-0.1", "demonstrations.episodes=0"),
    *("sft.optimizer.b1=2.0", "sft.optimizer.b1=-1", "sft.optimizer.weight_decay=-1"),
    *("sft.optimizer.weight_decay=inf", "sft.optimizer.clip_norm=0", "rl.optimizer.b2=nan"),
    *("sft.optimizer.final_fraction=-5", "sft.optimizer.final_fraction=nan", "sft.steps=-1"),
    *("sft.optimizer.rules=('cond_embed',)", "sft.optimizer.rules=(('(',1.0),)"),
    *("sft.optimizer.rules=(('nothing',1.0),)", "sft.optimizer.rules=(('.*',0.0),)"),
    *("rl.optimizer.rules=(('cond_embed',-20.0),)", "rl.optimizer.rules=(('nothing',1.0),)"),
    *("sft.log_every=0", "sft.save_every=0", "sft.batch_size=0", "sft.time_samples=0"),
    *("rl.objective=ppo", "rl.cfg.alpha=1e9", "rl.windows.stride=99999999999999999999"),
    *("rl.groups.states=mine", "rl.groups.group_size=1", "rl.groups.max_groups=0"),
    *("rl.branch_mode=words", "rl.rollout_params=ema", "rl.condition=x", "rl.iterations=-1"),
    *("baselines.base={'iterations':1}", "baselines.ript={'iterations':1}", "baselines=3"),
    *("baselines={'a/b':{'iterations':1}}", "baselines={'odd':{'cfg':{'alhpa':1.0}}}"),
    *("eval.episodes=0", "eval.first_seed=99999999999999999999999", "eval.first_seed=-1"),
    *("eval.guidance=()", "eval.guidance=(True,)", "eval.guidance=(1e300,)"),
    *("eval.guidance=(1.0,1.0000001)", "eval.reference=nowhere", "eval.num_flow_steps=0"),
    *("hardware.memory_gb=nan", "hardware.memory_gb=0.001", "hardware.fsdp=7", "hardware.data=7"),
    *("hardware.remat=some", "hardware.micro_batches=3", "hardware.fsdp=0"),
    *("pool.workers=100000", "pool.timeout_s=0", "pool.engine=threads", "checkpoints.keep=0"),
    *("checkpoints.every=0", "sede=1", "rl.groups.grop_size=4", "rl.sampling.group_size=4"),
)
FILES = {
    "returns nothing": "def get_config():\n    pass\n",
    "has no get_config": "x = 1\n",
    "is no Python": "def get_config():\n    return (\n",
    "raises": "def get_config():\n    raise RuntimeError('a\\nb')\n",
    "knows no name": "def get_config():\n    return config\n",
    "imports what is not there": "import no_such_module\n",
    "ends the process": "raise SystemExit(0)\n",
    "never ends": "def get_config():\n    return get_config()\n",
    "lacks a section": "from ml_collections import ConfigDict\n\ndef get_config():\n"
    "    return ConfigDict({'suite': 'scripted'})\n",
}
TEXTS = {
    "is empty": "",
    "is a list": "[1]",
    "is a number": "3",
    "is cut": '{"config": {"suite": ',
    "has another's config": '{"config": [1]}',
    "has a key of tomorrow": '{"config": {"suite": "scripted", "tomorrow": 1}}',
    "has a key twice": '{"config": {"suite": "scripted"}, "config": {}}',
    "has a bad value": '{"config": {"suite": "scripted", "seed": -1}}',
    "is nested": "[" * 100000,
    "is no text": "\udcff\udcfe\udc80",
    "makes an object": "!!python/object/apply:os.system ['exit 1']",
    "has a tab": "suite:\n\tx: 1",
    "names a base that is not there": "base: nowhere.yaml\n",
    "is its own base": "base: is_its_own_base.yaml\n",
    "grows": "\n".join(
        [f"a0: &a0 {[0] * 9}", *(f"a{n}: &a{n} {[f'*a{n - 1}'] * 9}" for n in range(1, 12))]
    ).replace("'", ""),
}


class _BegunError(Exception):
    """All checks have passed: the input was accepted."""


@contextlib.contextmanager
def checks_alone() -> Iterator[None]:
    """A block in which programs end where they would make their run folder."""
    stop = mock.Mock(side_effect=_BegunError("accepted"))
    with mock.patch.object(folder, "make_folder", stop):
        yield


def values(run: Path, policy: Path) -> Iterator[Case]:
    """Values that are named here, and odd ones of every key."""
    known = dotted_values(load_config("demo").to_dict())
    for word in (*VALUES, *_odd(known)):
        yield train_case(run, f"train.py {word}", *_CONFIG, f"--config.{word}")
    for word in _odd({key: one for key, one in known.items() if key.startswith(_EVALUATED)}):
        arguments = (*_CONFIG, f"--checkpoint={policy}", f"--config.{word}")
        yield _case(evaluate.main, run, f"eval.py {word}", arguments, checkpoint=True)


def files(run: Path, place: Path) -> Iterator[Case]:
    """Config files of all kinds, written into a place."""
    texts = [(f"{name}.py", text) for name, text in FILES.items()]
    texts += [(f"{name}{end}", text) for name, text in TEXTS.items() for end in (".json", ".yaml")]
    for name, text in texts:
        path = place / name.replace(" ", "_").replace("'", "")
        path.write_text(text, errors="surrogateescape")
        yield train_case(run, f"config file {name}", f"--config={path}")


def train_case(run: Path, name: str, *arguments: str) -> Case:
    """A command line of train.py."""
    return _case(train.main, run, name, arguments)


def _case(
    main: Callable[[cli.Arguments], None],
    run: Path,
    name: str,
    arguments: tuple[str, ...],
    *,
    checkpoint: bool = False,
) -> Case:
    def call() -> None:
        words = [name.split()[0], *arguments, f"--workdir={run}"]
        try:
            main(cli.parse(words, checkpoint=checkpoint))
        except _BegunError:
            return
        finally:
            # Refused after it was written would be refused too late.
            there = run.exists()
            shutil.rmtree(run, ignore_errors=True)
            assert not there, "a run folder is left"

    return Case(name, call)


def _odd(known: dict[str, Any]) -> Iterator[str]:
    for key, value in known.items():
        texts = next((texts for kind, texts in _ODD if isinstance(value, kind)), ())
        yield from (f"{key}={text}" for text in texts)
