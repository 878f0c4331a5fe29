"""Plain flow matching on demonstrations: the loss of supervised fine-tuning."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from pi0_jax.data.augment import Change, augment, draw_change
from pi0_jax.data.cameras import on_hand
from pi0_jax.errors import check_minima
from pi0_jax.model import flow
from pi0_jax.model.pi0 import Pi0
from pi0_jax.training.step import LossAndMetrics, Params, SampledLoss
from pi0_jax.types import Batch

NoiseAndTime = tuple[jax.Array, jax.Array, jax.Array]
"""actions and noise float32[b, r, H, d], time float32[b, r]."""


@dataclass(frozen=True)
class SupervisedConfig:
    """How long and on what batches a policy imitates demonstrations.

    Attributes:
        steps: optimizer steps; 0 leaves the policy as it is.
        batch_size: windows an optimizer step.
        time_samples: noise/time draws a window.
        save_every: optimizer steps between checkpoints.
        augment: change the pictures of every batch (`data/augment.py`).
        log_every: optimizer steps between lines of metrics; reading them waits for the device.
    """

    steps: int
    batch_size: int
    time_samples: int
    save_every: int = 1000
    augment: bool = False
    log_every: int = 20

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            InputError: named field.
        """
        minima = {"steps": 0, "batch_size": 1, "time_samples": 1, "save_every": 1}
        check_minima("sft", self, minima | {"log_every": 1})


def flow_matching_loss(model: Pi0, time_samples: int) -> SampledLoss:
    """Conditional flow matching without a condition (pi0, arXiv 2410.24164, equation 1).

    The condition embedding is left out, so it stays zero, and the policy that comes out acts
    alike at every guidance scale.

    Args:
        model: the network.
        time_samples: noise/time draws an observation; they share one prefix pass.
    """

    def loss(params: Params, batch: Batch, drawn: NoiseAndTime) -> LossAndMetrics:
        """The flow-matching loss of one batch."""
        actions, noise, time = drawn
        x_t = flow.interpolate(actions, noise, time)
        cache = model.encode_prefix(params, batch.obs)
        v = model.velocity(params, cache, jnp.asarray(batch.obs.state), x_t, time)
        error = flow.matching_error(v, actions, noise)
        return flow.masked_mean(error, jnp.asarray(batch.action_mask)), {}

    return SampledLoss(noise_and_time_sampler(time_samples), loss)


def augmented(loss: SampledLoss, cameras: tuple[str, ...]) -> SampledLoss:
    """The loss of changed pictures; the changes are drawn for the whole batch.

    Args:
        loss: of the pictures as they are.
        cameras: names in the order of `Observation.images`.
    """
    moving = tuple(on_hand(camera) for camera in cameras)

    def drawn(rng: jax.Array, batch: Batch) -> tuple[Any, Change]:
        """What the loss draws, and a change for every picture."""
        loss_rng, rng = jax.random.split(rng)
        return loss.sample(loss_rng, batch), draw_change(rng, batch.obs.image_mask.shape)

    def given(params: Params, batch: Batch, drawn: tuple[Any, Change]) -> LossAndMetrics:
        """The loss of one batch."""
        images = augment(jnp.asarray(batch.obs.images), drawn[1], moving)
        changed = dataclasses.replace(batch, obs=dataclasses.replace(batch.obs, images=images))
        return loss.evaluate(params, changed, drawn[0])

    return SampledLoss(drawn, given)


def noise_and_time_sampler(time_samples: int) -> Callable[[jax.Array, Batch], NoiseAndTime]:
    """`draw` for a batch's actions."""
    return lambda rng, batch: sample_noise_and_time(rng, jnp.asarray(batch.actions), time_samples)


def sample_noise_and_time(rng: jax.Array, actions: jax.Array, time_samples: int) -> NoiseAndTime:
    """Noise and time for every suffix row.

    Args:
        rng: key.
        actions: float32[b, H, d].
        time_samples: rows r.

    Returns:
        actions and noise float32[b, r, H, d], time float32[b, r].
    """
    noise_rng, time_rng = jax.random.split(rng)
    batch, horizon, dim = actions.shape
    shape = (batch, time_samples, horizon, dim)
    noise = jax.random.normal(noise_rng, shape)
    time = flow.sample_time(time_rng, shape[:2])
    return jnp.broadcast_to(actions[:, None], shape), noise, time
