"""Train with a loss of your own: here the Huber loss of the velocity, for one update."""

import jax
import jax.numpy as jnp
import optax

import pi0_jax as pj
from pi0_jax.model import flow
from pi0_jax.training.supervised import sample_noise_and_time


def huber_loss(network):
    def loss(params, batch, rng):
        actions, noise, time = sample_noise_and_time(rng, batch.actions, time_samples=1)
        cache = network.encode_prefix(params, batch.obs)
        x_t = flow.interpolate(actions, noise, time)  # [b, 1, H, d]
        v = network.velocity(params, cache, batch.obs.state, x_t, time)
        error = optax.huber_loss(v, noise - actions).mean(-1)  # [b, 1, H]
        return flow.masked_mean(error, jnp.asarray(batch.action_mask), batch.weight), {}

    return loss


loss = huber_loss(pj.Pi0(pj.testing.CONFIG))
optimizer = pj.OptimizerConfig(1e-3, warmup_steps=0, preset="expert_only")
state, update = pj.create_training(pj.testing.random_params(), loss, optimizer, total_steps=10)
state, metrics = update(state, pj.testing.batch(8), jax.random.key(0))
print(f"step {int(state.step)}, loss {float(metrics['loss']):.3f}")
