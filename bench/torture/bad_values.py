"""Wrong values in files and arguments that are otherwise sound: settings, observations, paths."""

import dataclasses
import json
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pi0_jax import testing
from pi0_jax.policy.policy import Policy
from torture.refusals import Case

POLICY: Mapping[str, tuple[Any, ...]] = {
    "format_version": (0, 9, "3", None, 3.5),
    "quantile": ("false", 1, None),
    "state_in_prompt": (1, "no"),
    "tokenizer": ("gpt2", None, ""),
    "asset_id": ("../../evil", "/tmp/evil", "a/../../b", "", 5, None),
    "branch_mode": ("words", 3),
    "execute_steps": (0, -1, 2.5, True, 10**9, 10**30),
    "twist": (1,),
    "model": (3, None, {}),
    "model.pi05": ("x",),
    "model.depth": (2.0, 0, 10**9),
    "model.action_horizon": (10**9, -1),
    "model.prompt_length": (10**10,),
    "model.vocab_size": (10**12, 3),
    "model.vision.width": ([3], 0),
    "action_space.delta_mask": ([0], [True] * 99),
    "robot.control_hz": ("20", 0, float("nan")),
    "robot.cameras": ("fixed", ["front", 3], ["front", ""], []),
    "robot.state": ({}, 3),
}
INFO: Mapping[str, tuple[Any, ...]] = {
    "codebase_version": ("v4.0", 3, None),
    "fps": (0, -1, "x", float("nan"), float("inf"), None),
    "total_episodes": (4, -1, "x", None),
    "data_path": (
        *("../../x_{chunk_index:03d}.parquet", "/etc/{chunk_index}.parquet", "{wrong}", "{", 5),
        *("{chunk_index!r:>3000000000}", "{chunk_index:>3000000000}", "{chunk_index.__class__}"),
    ),
    "features": (3, [], {}, {"observation.state": 3}, None),
}
_GOOD = testing.raw_obs()
OBSERVATIONS: Mapping[str, Mapping[str, Any]] = {
    "pictures of 0 to 1": {"images": _GOOD.images / 255.0},
    "pictures of int64": {"images": _GOOD.images.astype(int)},
    "colours first": {"images": _GOOD.images.transpose(0, 3, 1, 2)},
    "one camera": {"images": _GOOD.images[:1]},
    "three cameras": {"images": _GOOD.images[[0, 1, 1]]},
    "no list of cameras": {"images": _GOOD.images[0]},
    "grey pictures": {"images": _GOOD.images[..., 0]},
    "four colours": {"images": _GOOD.images[..., [0, 1, 2, 2]]},
    "no pixel": {"images": _GOOD.images[:, :0]},
    "lists": {"images": _GOOD.images.tolist()},
    "no pictures": {"images": None},
    "a state of 7": {"state": _GOOD.state[:7]},
    "a state of 9": {"state": np.zeros(9, np.float32)},
    "a state in a batch": {"state": _GOOD.state[None]},
    "NaN in the state": {"state": np.full_like(_GOOD.state, np.nan)},
    "an infinite state": {"state": np.full_like(_GOOD.state, np.inf)},
    "words in the state": {"state": np.array(["a"] * 8)},
    "no state": {"state": None},
    "no instruction": {"prompt": None},
    "bytes as an instruction": {"prompt": b"go"},
    "a long instruction": {"prompt": "lift " * 99},
    "a short mask": {"camera_mask": np.array([True])},
    "no camera at all": {"camera_mask": np.array([False, False])},
}
_TEXTS = (b"", b"\x00" * 64, b"\x80\x04", pickle.dumps(os.system), b"PK\x03\x04", b"\xff" * 64)


def of_file(
    what: str, file: Path, wrong: Mapping[str, tuple[Any, ...]], read: Callable[[], object]
) -> Iterator[Case]:
    """Each wrong value in a JSON file, by its dotted key; to be called one by one."""
    text = file.read_text()
    for key, values in wrong.items():
        *sections, name = key.split(".")
        for value in values:
            content = json.loads(text)
            place = content
            for section in sections:
                place = place[section]
            place[name] = value
            file.write_text(json.dumps(content))
            yield Case(f"{what}: {key}={value!r:.40}", read)
    file.write_text(text)


def observations() -> Iterator[Case]:
    """What a robot may give to a policy by mistake."""
    # What it takes is not what its types say.
    policy: Any = Policy.from_folder(testing.tiny_policy())
    for name, changes in OBSERVATIONS.items():
        one = dataclasses.replace(_GOOD, **changes)
        yield Case(f"observation: {name}", lambda one=one: policy.act([one]))
    for bad in ([], None, 3, _GOOD, [None], [_GOOD.images], {"state": 3}, [_GOOD, "x"]):
        yield Case(f"observations: {bad!r:.30}", lambda bad=bad: policy.act(bad))
    for noise in (np.zeros((1, 4, 7), np.float32), np.zeros((1, 4, 8), int), "x"):
        shape = np.shape(noise) or noise
        call = lambda noise=noise: policy.act([_GOOD], noise=noise)  # noqa: E731
        yield Case(f"noise: {shape}", call)


def weights(folder: Path, convert: Callable[[Path], object]) -> Iterator[Case]:
    """Files that call themselves checkpoints."""
    for name in ("model.safetensors", "pytorch_model.bin", "model.pt", "adapter_model.safetensors"):
        for number, text in enumerate(_TEXTS):
            source = folder / f"{number}_{name}"
            source.mkdir(parents=True)
            (source / name).write_bytes(text)
            yield Case(f"weights: {name}: {text[:8]!r}", lambda source=source: convert(source))
