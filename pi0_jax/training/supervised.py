"""Plain flow matching on demonstrations: the loss of supervised fine-tuning.

Axis letters: b batch, r suffix row, H action horizon, d padded action dimension, c camera, h w
image.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from pi0_jax.data.augment import Change, augment, draw_change
from pi0_jax.data.cameras import on_hand
from pi0_jax.model import flow
from pi0_jax.model.draw import flat_key
from pi0_jax.model.pi0 import COND_EMBED, POSITIVE, Pi0
from pi0_jax.ranges import check_ranges
from pi0_jax.training.step import LossAndMetrics, Params, SampledLoss
from pi0_jax.types import Batch

NoiseAndTime = tuple[jax.Array, jax.Array, jax.Array]
"""actions and noise float32[b, r, H, d], time float32[b, r]."""


@dataclass(frozen=True)
class SupervisedConfig:
    """How long and on what batches a policy imitates demonstrations.

    Attributes:
        steps: number of optimizer steps; 0 leaves the policy as it is.
        batch_size: windows per optimizer step.
        time_samples: noise/time draws per window.
        save_every: optimizer steps between checkpoints.
        augment: augment the images of every batch (`data/augment.py`).
        log_every: optimizer steps between lines of metrics; reading them waits for the device.
    """

    steps: Annotated[int, "[0, 1e9]"]
    batch_size: Annotated[int, "[1, 1e6]"]
    time_samples: Annotated[int, "[1, 1000]"]
    save_every: Annotated[int, "[1, 1e9]"] = 1000
    augment: bool = False
    log_every: Annotated[int, "[1, 1e9]"] = 20

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            InputError: named field.
        """
        check_ranges("sft", self)


def flow_matching_loss(model: Pi0, time_samples: int, positive: bool = False) -> SampledLoss:
    """Builds the flow-matching loss of pi0 (arXiv 2410.24164, equation 1).

        L = mean over real action steps of |v(x_t, t) - (noise - actions)|^2
        x_t = t noise + (1 - t) actions

    v is the network's velocity, and |.|^2 is the mean over the d action dimensions. The mean is
    over windows b, rows r and those of the H steps that the window's mask counts; windows are not
    weighted.

    The condition embedding is not trained. Where it is zero it has no part, and the trained policy
    acts the same at every guidance scale.

    Args:
        model: the network.
        time_samples: noise/time draws r per observation; they share one prefix pass.
        positive: v has the positive condition, which is how a policy acts whose embedding RL has
            trained; the row of the other branch has no gradient (only weight decay moves it).
    """

    def loss(params: Params, batch: Batch, drawn: NoiseAndTime) -> LossAndMetrics:
        """The flow-matching loss of one batch."""
        actions, noise, time = drawn  # [b, r, H, d] twice, [b, r]
        x_t = flow.interpolate(actions, noise, time)  # [b, r, H, d]
        # Once per observation, for all r rows: images and prompt do not depend on noise and time.
        cache = model.encode_prefix(params, batch.obs)
        ids = None
        if positive:
            ids = jnp.full(time.shape, POSITIVE)  # [b, r]
            params = params | {COND_EMBED: jax.lax.stop_gradient(params[COND_EMBED])}
        v = model.velocity(params, cache, jnp.asarray(batch.obs.state), x_t, time, ids)
        # v [b, r, H, d] -> error [b, r, H]; the mask is [b, H]: no step after the episode's end.
        error = flow.matching_error(v, actions, noise)
        return flow.masked_mean(error, jnp.asarray(batch.action_mask)), {}

    return SampledLoss(noise_and_time_sampler(time_samples), loss)


def augmented(loss: SampledLoss, cameras: tuple[str, ...]) -> SampledLoss:
    """The same loss L, with the images of each batch augmented (`data/augment.py`).

    Args:
        loss: the loss of images as they are.
        cameras: camera names in the order of `Observation.images`.
    """
    # A hand camera's image is not cropped or turned: places in it are relative to the hand.
    moving = tuple(on_hand(camera) for camera in cameras)

    def sample(rng: jax.Array, batch: Batch) -> tuple[Any, Change]:
        """The random numbers of the loss, and a change for every image [b, c]."""
        # Here and not in `evaluate`, so that micro-batches change images as the whole batch would.
        loss_rng, rng = jax.random.split(rng)
        return loss.sample(loss_rng, batch), draw_change(rng, batch.obs.image_mask.shape)

    def evaluate(params: Params, batch: Batch, drawn: tuple[Any, Change]) -> LossAndMetrics:
        """The loss of one batch with changed images."""
        # uint8[b, c, h, w, 3] -> float32[b, c, h, w, 3], already scaled.
        images = augment(jnp.asarray(batch.obs.images), drawn[1], moving)
        changed = dataclasses.replace(batch, obs=dataclasses.replace(batch.obs, images=images))
        return loss.evaluate(params, changed, drawn[0])

    # What else the loss needs of a training stays: rows apart, parameters of its own.
    return dataclasses.replace(loss, sample=sample, evaluate=evaluate)


def noise_and_time_sampler(time_samples: int) -> Callable[[jax.Array, Batch], NoiseAndTime]:
    """`SampledLoss.sample` that draws noise and time for a batch's actions."""
    return lambda rng, batch: sample_noise_and_time(rng, jnp.asarray(batch.actions), time_samples)


def sample_noise_and_time(rng: jax.Array, actions: jax.Array, time_samples: int) -> NoiseAndTime:
    """Noise and time for every suffix row.

    Args:
        rng: random key.
        actions: float32[b, H, d].
        time_samples: rows r per window.

    Returns:
        actions and noise float32[b, r, H, d], time float32[b, r].
    """
    noise_rng, time_rng = jax.random.split(rng)
    batch, horizon, dim = actions.shape
    shape = (batch, time_samples, horizon, dim)  # [b, r, H, d]
    noise = jax.random.normal(flat_key(noise_rng), shape)
    # One time per row, not per action: a chunk is denoised as a whole.
    time = flow.sample_time(time_rng, shape[:2])  # [b, r]
    # [b, H, d] -> [b, 1, H, d] -> [b, r, H, d]: all rows of a window have the same target actions.
    return jnp.broadcast_to(actions[:, None], shape), noise, time
