"""The config that --config names, which may be one of these.

demo:full, libero:suite=libero_goal    a config of this package, with its argument
my/config.py[:ARGUMENT]                a file with `get_config(argument)`, as in pi0_jax/configs/
RUN/config.json                        the settings of an earlier run
my/config.yaml                         differences from another config:

    base: libero:suite=libero_goal     any of these; a path is relative to the YAML file
    seed: 3
    rl.groups.group_size: 4            a key with dots,
    eval:                              or a section
      episodes: 20

A YAML file without `base` starts from the defaults of its `suite`.
"""

import importlib
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from ml_collections import ConfigDict

from pi0_jax.apps.finetune_settings import fine_tune_config, is_fine_tuning
from pi0_jax.apps.settings import train_config
from pi0_jax.errors import InputError
from pi0_jax.json_file import read_object
from pi0_jax.plain_file import read_text
from pi0_jax.plain_values import replaced, tuples
from pi0_jax.run.same_config import LABELS

# Entries of a run's config.json that are no keys: they record what else the run depended on.
BESIDE = ("checkpoint", "checkpoint_digest", "reference", "reference_digest")
BESIDE += ("demonstrations_digest", LABELS, "init_digest", "statistics_digest")
BESIDE += ("served_policy",)
# Their words alone say what is wrong.
_SAID = (AttributeError, ImportError, NameError, OSError, SyntaxError, TypeError, ValueError)
_SAID += (yaml.YAMLError,)


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, as in YAML 1.2; PyYAML alone reads it as text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def load_config(name: str) -> ConfigDict:
    """The config that --config names, with every key that has a default.

    Raises:
        InputError: no such config, or an error in it.
    """
    # A name of this package or a path; in both a colon starts the argument.
    file, _, argument = name.partition(":")
    path = Path(file).expanduser()
    readers = {".py": _from_python, ".json": _from_run, ".yaml": _from_yaml, ".yml": _from_yaml}
    if path.suffix not in readers and file not in packaged():
        raise InputError(
            f"--config: expected one of {', '.join(packaged())}, or a file that ends in .py, "
            f".yaml or .json, got {name!r}"
        )
    try:
        if path.suffix in readers:
            return readers[path.suffix](path, argument)
        return _called(importlib.import_module(f"pi0_jax.configs.{file}"), argument)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"--config: no such file: {error.filename}") from error
    # A config file is code: it may raise anything, also what would end this process wordlessly.
    except (Exception, SystemExit) as error:
        said = " ".join(str(error).split())
        kind = "" if isinstance(error, _SAID) else f"{type(error).__name__}: "
        raise InputError(said if file in said else f"--config {file}: {kind}{said}") from error


def packaged() -> list[str]:
    """Names of the configs of this package."""
    # The files themselves are the list, so a new config need not be named anywhere.
    folder = Path(__file__).parents[1] / "configs"
    return sorted(path.stem for path in folder.glob("[a-z]*.py"))


def _called(module: ModuleType, argument: str) -> ConfigDict:
    found = module.get_config(*([argument] if argument else []))
    if not isinstance(found, ConfigDict):
        raise InputError(
            f"--config {module.__name__}: get_config must return a ConfigDict, got {found!r:.40}"
        )
    return found


def _from_python(path: Path, argument: str) -> ConfigDict:
    if not path.is_file():
        raise FileNotFoundError(2, "No such file", str(path))
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    # Loaded by path and not put into sys.modules: two configs may have one file name.
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return _called(module, argument)


def _from_run(path: Path, argument: str) -> ConfigDict:
    _no_argument(path, argument)
    stored = read_object(path)
    if not isinstance(stored.get("config"), dict):
        raise InputError(f"--config {path}: expected the config.json of a run")
    # Completed, because a run of an earlier version lacks the keys that are new since then.
    return _completed({k: v for k, v in stored["config"].items() if k not in BESIDE})


def _from_yaml(path: Path, argument: str) -> ConfigDict:
    _no_argument(path, argument)
    # A safe loader: a config of somebody else must not run code.
    values = yaml.load(read_text(path), _Loader)
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InputError(f"--config {path}: expected keys and values, got {values!r}")
    base = values.pop("base", None)
    if base is None:
        return _completed(_nested(values))
    file = str(base).partition(":")[0]
    start = load_config(str(base) if file in packaged() else str(path.parent / str(base)))
    return ConfigDict(_changed(start.to_dict(), _nested(values)))


def _no_argument(path: Path, argument: str) -> None:
    if argument:
        raise InputError(f"--config {path}: takes no argument, got {argument!r}")


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with dotted keys turned into sections."""
    found: dict[str, Any] = {}
    # Merged one by one: a file may have both `eval.episodes` and a section `eval`.
    for key, value in values.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        found = replaced(found, value)
    return found


def _completed(values: Mapping[str, Any]) -> ConfigDict:
    """The values, with the defaults of their suite, or of a fine-tuning, for all other keys."""
    if is_fine_tuning(values):
        return ConfigDict(_changed(fine_tune_config(values["robot"]).to_dict(), values))
    # The options of `task` depend on the suite, so without it there are no defaults.
    if "suite" not in values:
        raise InputError("config key suite is missing; set it")
    return ConfigDict(_changed(train_config(values["suite"]).to_dict(), values))


def _changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return replaced(values, tuples(changes))
