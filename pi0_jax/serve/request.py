"""One request: an observation as a client sends it -> RawObs and how to sample, or one clear error.

Axis letters: c camera, h height, w width, s state dimension, n row, d padded dimension.
"""

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pi0_jax.data.transforms import Transforms
from pi0_jax.episode import RawObs
from pi0_jax.errors import InputError
from pi0_jax.pictures import resize_with_pad
from pi0_jax.plain_values import nearest
from pi0_jax.policy.inputs import check_observations
from pi0_jax.policy.ongoing import Ongoing
from pi0_jax.robot import Dimension, Robot
from pi0_jax.serve.layouts import PROMPT, Layout, flattened

GUIDANCE, FLOW_STEPS, SEED = "guidance", "num_flow_steps", "seed"
PREVIOUS, FROZEN = "previous_actions", "frozen_actions"
_OPTIONS = (GUIDANCE, FLOW_STEPS, SEED, PREVIOUS, FROZEN)
_LONGEST_SEED = 8
_LONGEST_VALUE = 60  # letters of a value in a message
# Normalised, where data of the robot are around 1. Squares of larger numbers, and sums of them,
# come near the end of float32: the actions would be NaN.
_LARGEST = 1e12

MOST_SEED = 2**64 - 1
"""Largest number of a seed: the protocol carries no larger one."""

Seed = tuple[int, ...]
"""What the noise of a chunk is drawn from, by `numpy.random.default_rng`."""


@dataclass(frozen=True)
class Sampling:
    """How a chunk is drawn; requests with equal ones share a call of the policy.

    Attributes:
        guidance: guidance scale.
        num_flow_steps: steps from noise to actions.
    """

    guidance: float
    num_flow_steps: int


@dataclass(frozen=True)
class Request:
    """A request that the policy can answer.

    Attributes:
        obs: checked against the policy's robot.
        sampling: within the operator's limits.
        seed: None where the client gave none.
        ongoing: what the robot executes meanwhile; None for one that waits.
    """

    obs: RawObs
    sampling: Sampling
    seed: Seed | None
    ongoing: Ongoing | None = None

    @property
    def program(self) -> tuple[Sampling, bool]:
        """Requests with equal ones can share a call of the policy."""
        return self.sampling, self.ongoing is not None


@dataclass(frozen=True)
class Rules:
    """What an observation must be, and what a client may choose.

    Attributes:
        robot: the policy's.
        layouts: the keys that are read.
        default: how a chunk is drawn unless a request says so.
        guidance: smallest and largest scale that a request may ask for.
        num_flow_steps: fewest and most steps that a request may ask for.
        network_side: height and width [px] of the network's images.
        default_prompt: the instruction of requests without one; "" for none.
        image_side: most pixels that an image may be high or wide.
        seeds: requests may choose the seed of their noise.
        horizon: longest chunk that a request may continue (real-time chunking); 0 for none.
    """

    robot: Robot
    layouts: tuple[Layout, ...]
    default: Sampling
    guidance: tuple[float, float]
    num_flow_steps: tuple[int, int]
    network_side: int
    default_prompt: str = ""
    image_side: int = 2048
    seeds: bool = True
    horizon: int = 0

    def __post_init__(self) -> None:
        """Checks that what is the default may be asked for.

        Raises:
            InputError: a default is not within its limits.
        """
        _within(GUIDANCE, self.default.guidance, self.guidance)
        _within(FLOW_STEPS, self.default.num_flow_steps, self.num_flow_steps)


def read_request(message: Any, rules: Rules) -> Request:
    """Reads a message that was unpacked.

    Raises:
        InputError: a key is unknown or missing, or a value does not fit.
    """
    if not isinstance(message, Mapping):
        raise InputError(f"expected a map of an observation, got {type(message).__name__}")
    values = flattened(message)
    options = {name: values.pop(name) for name in _OPTIONS if name in values}
    obs = _observation(values, rules)
    check_observations([obs], rules.robot)
    ongoing, seed = _ongoing(options, rules), _seed(options.get(SEED))
    if seed is not None and not rules.seeds:
        raise InputError(f"{SEED!r}: this server lets no request choose its seed")
    return Request(obs, _sampling(options, rules), seed, ongoing)


def check_fits(request: Request, transforms: Transforms) -> None:
    """Checks what only a policy's tokenizer and statistics tell.

    Here, because in a call of the policy it would cost the others of the call their time.

    Args:
        request: as `read_request` returns it.
        transforms: of the policy.

    Raises:
        InputError: the prompt is too long, or numbers are so large that the network overflows.
    """
    obs, robot = request.obs, transforms.robot
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is not within the limit
        _check_size("the state", transforms.state(obs.state[None]), robot.state)
        if request.ongoing is not None:
            actions = transforms.actions(request.ongoing.actions, obs.state)
            _check_size(repr(PREVIOUS), actions, robot.actions)
    transforms.prompts([obs])


def _check_size(what: str, normalized: np.ndarray, dimensions: Sequence[Dimension]) -> None:
    """Checks numbers float32[n, d]; the first of each row are of these dimensions, then zeros."""
    good = np.abs(normalized) <= _LARGEST  # bool[n, d]; False for NaN
    if not good.all():
        # Of the d columns, those of the robot.
        bad = [d.name for d, fits in zip(dimensions, good.T, strict=False) if not fits.all()]
        raise InputError(
            f"{what}: expected numbers that are at most {_LARGEST:g} when they are normalised, got "
            f"more in {bad}; send them in the robot's units"
        )


def _observation(values: dict[str, Any], rules: Rules) -> RawObs:
    layout = max(rules.layouts, key=lambda one: len(values.keys() & {*one.keys}))
    if unknown := sorted(values.keys() - {*layout.keys}):
        near = nearest(unknown[0], (*layout.keys, *_OPTIONS))
        raise InputError(f"unknown key {unknown[0]!r}; the nearest one that is read is {near!r}")
    may_miss = layout.images[1:] if layout.cameras_may_miss else ()
    needed = [key for key in (*layout.images, *layout.state) if key not in may_miss]
    if missing := [key for key in needed if key not in values]:
        raise InputError(f"{missing[0]!r} is missing; send {', '.join(needed)} and {PROMPT}")
    seen = np.array([key in values for key in layout.images])  # bool[c]
    black = np.zeros((rules.network_side, rules.network_side, 3), np.uint8)
    images = [_image(k, values[k], rules) if k in values else black for k in layout.images]
    state = np.concatenate([_numbers(key, values[key]) for key in layout.state])
    mask = None if seen.all() else seen
    return RawObs(np.stack(images), state, _prompt(values.get(PROMPT), rules), mask)


def _image(key: str, value: Any, rules: Rules) -> np.ndarray:
    """An image as the network wants it, uint8[h, w, 3], from any that openpi takes."""
    wanted = f"{key!r}: expected an image uint8 or float in [0, 1], [h, w, 3] or [3, h, w]"
    if not isinstance(value, np.ndarray) or value.ndim != 3:
        got = _described(value)
        raise InputError(f"{wanted}, got {got}")
    last, first = value.shape[2] == 3, value.shape[0] == 3
    if last == first:  # none has the colours, or both could
        raise InputError(f"{wanted}, got {_described(value)}")
    image = value if last else np.moveaxis(value, 0, -1)
    height, width = image.shape[:2]
    # The long side becomes the network's; of the short one must be left a pixel.
    strip = min(height, width) < 1 or min(height, width) * rules.network_side < max(height, width)
    if strip or max(height, width) > rules.image_side:
        raise InputError(
            f"{key!r}: expected 1 to {rules.image_side} pixels a side and no thin strip, got "
            f"{height} x {width}"
        )
    if image.dtype.kind == "f":
        image = _from_float(key, image)
    if image.dtype != np.uint8:
        raise InputError(f"{wanted}, got {_described(value)}")
    # As the policy does, and only once: here it costs the threads that read, not the one that acts.
    return resize_with_pad(np.ascontiguousarray(image), rules.network_side)


def _from_float(key: str, image: np.ndarray) -> np.ndarray:
    """float[h, w, 3] in [0, 1] to uint8[h, w, 3], truncated as in openpi."""
    low, high = float(image.min(initial=0.0)), float(image.max(initial=0.0))
    if not (low >= 0.0 and high <= 1.0):  # also where one is NaN
        raise InputError(f"{key!r}: expected a float image in [0, 1], got {low:g} to {high:g}")
    return (255 * image).astype(np.uint8)


def _numbers(key: str, value: Any) -> np.ndarray:
    """float32[n]: a part of the state; one number alone may come without a list."""
    plain = isinstance(value, list) and all(type(x) in (int, float) for x in value)
    if not plain and type(value) not in (int, float) and not isinstance(value, np.ndarray):
        raise InputError(f"{key!r}: expected an array of numbers, got {_described(value)}")
    array = np.atleast_1d(np.asarray(value))
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        raise InputError(f"{key!r}: expected numbers [n], got {_described(array)}")
    with np.errstate(over="ignore"):  # becomes infinity, which the policy's door names
        return array.astype(np.float32)


def _prompt(value: Any, rules: Rules) -> str:
    if value is None:
        if not rules.default_prompt:
            raise InputError(f"{PROMPT!r} is missing, and the server has no --default-prompt")
        return rules.default_prompt
    if not isinstance(value, str):
        raise InputError(f"{PROMPT!r}: expected a text, got {_described(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # half of a pair of UTF-16; an array of text can hold one
        raise InputError(
            f"{PROMPT!r}: expected a text of Unicode, got {_described(value)}"
        ) from error
    return value


def _sampling(options: Mapping[str, Any], rules: Rules) -> Sampling:
    guidance = options.get(GUIDANCE, rules.default.guidance)
    steps = options.get(FLOW_STEPS, rules.default.num_flow_steps)
    if type(steps) is not int:
        raise InputError(f"{FLOW_STEPS!r}: expected a whole number, got {_described(steps)}")
    _within(GUIDANCE, guidance, rules.guidance)
    _within(FLOW_STEPS, steps, rules.num_flow_steps)
    return Sampling(float(guidance), steps)


def _ongoing(options: Mapping[str, Any], rules: Rules) -> Ongoing | None:
    """The chunk that is being executed, of the robot's actions [n, e]."""
    given = [name for name in (PREVIOUS, FROZEN) if name in options]
    if not given:
        return None
    if not rules.horizon:
        raise InputError(f"{given[0]!r}: this server was started without --real-time")
    if len(given) == 1:
        raise InputError(f"{PREVIOUS!r} and {FROZEN!r} go together, got {given[0]!r} alone")
    actions = options[PREVIOUS]
    if not isinstance(actions, np.ndarray) or actions.dtype.kind not in "iuf":
        raise InputError(f"{PREVIOUS!r}: expected numbers [n, e], got {_described(actions)}")
    with np.errstate(over="ignore"):  # becomes infinity, which the check names
        found = Ongoing(actions.astype(np.float32), options[FROZEN])
    found.check(rules.horizon, len(rules.robot.actions))
    return found


def _within(name: str, value: Any, limits: tuple[float, float]) -> None:
    if type(value) not in (int, float) or not limits[0] <= value <= limits[1]:
        allowed = f"{limits[0]:g}" if limits[0] == limits[1] else f"{limits[0]:g} to {limits[1]:g}"
        got = _described(value)
        raise InputError(f"{name!r}: expected {allowed}, as this server allows, got {got}")


def _seed(value: Any) -> Seed | None:
    """A seed: a whole number, or several (an evaluation sends what its noise depends on)."""
    if value is None:
        return None
    numbers = value.tolist() if isinstance(value, np.ndarray) else value
    numbers = numbers if isinstance(numbers, list) else [numbers]
    good = all(type(n) is int and 0 <= n <= MOST_SEED for n in numbers)
    if not good or not 1 <= len(numbers) <= _LONGEST_SEED:
        raise InputError(
            f"{SEED!r}: expected a whole number from 0 to 2**64 - 1, or at most {_LONGEST_SEED} of "
            f"them, got {_described(value)}"
        )
    return tuple(numbers)


def _described(value: Any) -> str:
    """A value for a message, in few letters whatever its size and however deep it is."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    text = reprlib.repr(value)
    short = len(text) <= _LONGEST_VALUE
    return text if short else f"{type(value).__name__} {text[:_LONGEST_VALUE]}..."
