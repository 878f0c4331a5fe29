"""Files of a lerobot policy but for its weights, made from the reference data and then changed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from checkpoints import GOLDENS

from pi0_jax.convert.settings.lerobot_processors import (
    ABSOLUTE,
    NEW_LINE,
    NORMALIZER,
    POSTPROCESSOR,
    PREPROCESSOR,
    RELATIVE,
    STATE_TEXT,
    UNNORMALIZER,
)

Json = dict[str, Any]
NAMES = ["x", "y", "z", "rx", "ry", "rz", "gripper"]


def policy_files(folder: Path) -> Path:
    """config.json and processors of `tiny_pi0_torch_lerobot_new`: state 8, actions 7."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in (GOLDENS / "tiny_pi0_torch_lerobot_new").iterdir():
        shutil.copy(file, folder)
    return folder


def edit(path: Path, change: Callable[[Json], None]) -> None:
    """Changes a JSON file."""
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def set_config(folder: Path, **values: Any) -> None:
    """Sets keys of config.json."""
    edit(folder / "config.json", lambda config: config.update(values))


def set_step(folder: Path, step: str, **values: Any) -> None:
    """Sets settings of one step, in whichever processor has it."""

    def change(values_of_file: Json) -> None:
        for each in values_of_file["steps"]:
            if each["registry_name"] == step:
                each["config"] |= values

    for name in (PREPROCESSOR, POSTPROCESSOR):
        edit(folder / name, change)


def move_step(folder: Path, step: str, place: int) -> None:
    """Moves a step of the preprocessor."""

    def change(values: Json) -> None:
        steps = values["steps"]
        steps.insert(place, steps.pop(names_of(values).index(step)))

    edit(folder / PREPROCESSOR, change)


def names_of(values: Json) -> list[str]:
    """Names of the steps of a processor."""
    return [step["registry_name"] for step in values["steps"]]


def add_relative(folder: Path, name: str = RELATIVE, **settings: Any) -> None:
    """Adds both steps of relative actions, and the keys of config.json, as lerobot writes them."""
    config = {"enabled": True, "exclude_joints": ["gripper"], "action_names": NAMES} | settings
    before: Json = {"registry_name": name, "config": config}
    behind: Json = {"registry_name": ABSOLUTE, "config": {"enabled": config["enabled"]}}

    def insert(values: Json) -> None:
        values["steps"].insert(names_of(values).index(NORMALIZER), before)

    edit(folder / PREPROCESSOR, insert)
    edit(folder / POSTPROCESSOR, lambda values: values["steps"].insert(1, behind))
    set_config(
        folder,
        use_relative_actions=config["enabled"],
        relative_exclude_joints=config["exclude_joints"],
        action_feature_names=config["action_names"],
    )


def make_pi05(folder: Path) -> None:
    """Turns the files into those of a pi0.5, with quantiles and the state in the prompt."""
    modes = {"VISUAL": "IDENTITY", "STATE": "QUANTILES", "ACTION": "QUANTILES"}
    set_config(folder, type="pi05", normalization_mapping=modes, tokenizer_max_length=200)
    for step in (NORMALIZER, UNNORMALIZER):
        set_step(folder, step, norm_map=modes)
    set_step(folder, "tokenizer_processor", max_length=200)

    def change(values: Json) -> None:
        steps = {step["registry_name"]: step for step in values["steps"]}
        del steps[NEW_LINE]
        steps[STATE_TEXT] = {"registry_name": STATE_TEXT, "config": {}}
        rest = ("tokenizer_processor", "device_processor")
        first = [
            step for name, step in steps.items() if name not in (*rest, NORMALIZER, STATE_TEXT)
        ]
        values["steps"] = [*first, *(steps[n] for n in (NORMALIZER, STATE_TEXT, *rest))]

    edit(folder / PREPROCESSOR, change)


def drop_statistics(folder: Path) -> None:
    """Takes the statistics out, as in the bases that lerobot publishes."""
    for name in (PREPROCESSOR, POSTPROCESSOR):
        edit(folder / name, lambda values: [step.pop("state_file", 0) for step in values["steps"]])
    for file in folder.glob("policy_*.safetensors"):
        file.unlink()
