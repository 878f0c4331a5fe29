"""LIBERO's own demonstrations, one HDF5 file per task, with the states in which they began.

LIBERO's `scripts/create_dataset.py` executes action t and then stores what is seen as observation
t, while `states[t]` is the simulator's state before action t. So an episode here begins with
observation 0 and action 1, and what is seen after the last action is left out. A file's own
`init_state` lies some steps before its first action.

Files are of strangers: nothing is unpickled, and no link to another file is followed. Needs h5py:
`pip install -e '.[hdf5]'`.

Axis letters: t control step, n value of the simulator's state, h height, w width.
"""

# h5py is an optional dependency.
# pyright: reportMissingImports=false

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pi0_jax.episode import Episode, digest
from pi0_jax.errors import InputError
from pi0_jax.json_file import parse
from pi0_jax.optional import needed
from pi0_jax.plain_file import check_file
from pi0_jax.robots import load_robot

# Scene first, as everywhere; the order of the robot's cameras.
_PICTURES = ("agentview_rgb", "eye_in_hand_rgb")
_ENDING = "_demo"


@dataclass(frozen=True)
class Hdf5Demonstration:
    """One demonstration.

    Attributes:
        episode: pictures before every step, as policies see LIBERO's: turned by 180 degrees. Its
            seed is the number of the demonstration in its file.
        initial_state: float64[n], MuJoCo's flattened state (time, positions, velocities) in which
            the episode begins, as `set_init_state` of LIBERO takes it.
    """

    episode: Episode
    initial_state: np.ndarray


def read_libero_hdf5(path: Path) -> Iterator[Hdf5Demonstration]:
    """Reads the demonstrations of a file one by one, in the order of their numbers.

    Args:
        path: such as "pick_up_the_book_demo.hdf5".

    Raises:
        InputError: h5py is not installed, or the file is missing, damaged or another's.
    """
    with needed("an HDF5 file", "pip install -e '.[hdf5]'"):
        import h5py
    check_file(path)
    try:
        with h5py.File(path, "r") as file:
            data = _group(file, "data")
            prompt = _instruction(data)
            for name in sorted(data, key=_number):
                yield _demonstration(path, prompt, _number(name), _group(data, name))
    except (OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(f"{path}: expected demonstrations of LIBERO (HDF5): {error}") from error


def _instruction(data: Any) -> str:
    """The words of the task, which stand in JSON in an attribute, at times between quotes."""
    words = parse(data.attrs["problem_info"])["language_instruction"]
    return ("".join(words) if isinstance(words, list) else str(words)).strip('" ')


def _demonstration(path: Path, prompt: str, number: int, demo: Any) -> Hdf5Demonstration:
    robot, obs = load_robot("libero_panda"), _group(demo, "obs")
    actions = _array(demo, "actions").astype(np.float32)
    pose, fingers = _array(obs, "ee_states"), _array(obs, "gripper_states")
    state = np.concatenate([pose, fingers], 1).astype(np.float32)
    # Rows from the bottom up, as OpenGL has them; policies see that turned by 180 degrees.
    views = [_array(obs, name)[:, ::-1, ::-1] for name in _PICTURES]
    images = np.stack(views, 1)  # [t, c, h, w, 3]
    physics = _array(demo, "states").astype(np.float64)  # [t, n]
    rows = len(actions)
    expected = (rows, len(robot.actions)), (rows, len(robot.state)), (rows, len(_PICTURES)), rows
    found = actions.shape, state.shape, images.shape[:2], len(physics)
    if found != expected or images.dtype != np.uint8 or rows < 2 or physics.ndim != 2:
        raise InputError(
            f"{path}: demonstration {number}: expected actions, states, uint8 pictures and states "
            f"of the simulator, two or more: {expected}, got {found} and {images.dtype}"
        )
    # What is seen before an action stands in the row before.
    actions, state, images, initial = actions[1:], state[:-1], images[:-1], physics[1]
    steps = rows - 1
    if not (np.isfinite(actions).all() and np.isfinite(state).all()):
        raise InputError(f"{path}: demonstration {number}: a value is not finite")
    task = path.stem.removesuffix(_ENDING)
    return Hdf5Demonstration(
        Episode(
            task=task,
            prompt=prompt,
            robot=robot,
            init_hash=digest([initial]),
            seed=number,
            images=images,
            image_steps=np.arange(steps, dtype=np.int32),
            state=state,
            actions=robot.clip(actions),
            chunk_start=np.arange(steps) == 0,
            # LIBERO kept those that solved their task alone.
            success=True,
            optimizer_step=-1,
        ),
        initial,
    )


def _number(name: str) -> int:
    """The number in "demo_12"."""
    return int(name.removeprefix("demo_"))


def _group(parent: Any, name: str) -> Any:
    """A group of this file.

    Raises:
        ValueError: it is a link, or no group.
    """
    _refuse_link(parent, name)
    if not hasattr(parent[name], "keys"):
        raise ValueError(f"{name!r} is no group")
    return parent[name]


def _array(parent: Any, name: str) -> np.ndarray:
    """A data set of this file, whose values lie in this file.

    Raises:
        ValueError: it is a link or no data set of plain numbers, or its values lie elsewhere.
    """
    _refuse_link(parent, name)
    found = parent[name]
    if found.external or found.is_virtual or found.dtype.hasobject:
        raise ValueError(f"{name!r} has its values in other files, or holds no plain numbers")
    return found[()]


def _refuse_link(parent: Any, name: str) -> None:
    kind = parent.get(name, getlink=True)
    if type(kind).__name__ != "HardLink":
        raise ValueError(f"{name!r} is a link or is missing")
