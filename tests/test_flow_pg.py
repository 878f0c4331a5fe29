"""The clipped policy gradient: ratio 1 before the first update, its sign, its clip, what counts."""

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import KEY, SAMPLES, gradient
from tiny import CONFIG, MODEL, policy_folder

from pi0_jax.data.windows import assemble
from pi0_jax.errors import InputError
from pi0_jax.model import flow_sde
from pi0_jax.model.pi0 import POSITIVE, UNCONDITIONAL
from pi0_jax.policy.chains import act_in_chains, chain_shape
from pi0_jax.policy.policy import Policy
from pi0_jax.rl.objectives.flow_pg import FlowPg
from pi0_jax.testing import batch, raw_obs
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.memory import Job, abstract_batch, count
from pi0_jax.training.micro_batches import accumulated_gradient
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.step import OWN
from pi0_jax.types import Batch

PG = FlowPg()
LEARNED = FlowPg(learn_noise=True, noise_low=0.5, noise_high=2.0)
STEPS = 4
PART = ("action_out_proj", "cond_embed")
A = np.array([1.0, -0.5, 0.5, 0.0], np.float32)
EXECUTED = np.array([4, 3, 1, 2])  # of 4 steps in each window


@pytest.fixture(scope="module")
def windows(params) -> Batch:
    """Four windows of a policy's own chains, of which 4, 3, 1 and 2 steps were executed."""
    policy = Policy.from_folder(policy_folder(params), num_flow_steps=STEPS, rows=4)
    return acted_windows(policy)


def acted_windows(policy: Policy) -> Batch:
    seen = [raw_obs(seed=seed) for seed in range(4)]
    noise = np.random.default_rng(3).standard_normal((4, *chain_shape(policy)), np.float32)
    acted = act_in_chains(policy, seen, noise, PG.noise_level)
    mask = np.arange(CONFIG.action_horizon) < EXECUTED[:, None]
    cut = assemble(seen, acted.actions, mask, A, policy.transforms)
    return cut.replace(chain=acted.chain, chain_log_prob=acted.log_prob)


def shifted(windows: Batch, ratio: float) -> Batch:
    """The windows as if all chunks were `ratio` times as likely now, by their first step alone."""
    old = windows.chain_log_prob.copy()
    old[:, :, 0, 0] -= np.log(ratio)
    return windows.replace(chain_log_prob=old)


def weighted(windows: Batch, *advantages: float) -> Batch:
    return windows.replace(weight=np.array(advantages, np.float32))


def step_mean(values) -> float:
    """Mean of one value per window over the executed steps."""
    return float(np.sum(np.asarray(values) * EXECUTED) / EXECUTED.sum())


def test_the_ratio_is_1_before_the_first_update(params, windows):
    (loss, metrics), grads = gradient(PG, params, windows, trained=PART)
    assert float(metrics["ratio_mean"]) == pytest.approx(1, abs=1e-4)
    assert float(metrics["ratio_max"]) == pytest.approx(1, abs=1e-3)
    assert float(metrics["approx_kl"]) == pytest.approx(0, abs=1e-6)
    assert float(metrics["clip_fraction"]) == 0.0
    # -A rho with rho = 1: executed steps 4, 3, 1, 2 of A = 1, -0.5, 0.5, 0.
    assert float(loss) == pytest.approx(-(4 - 1.5 + 0.5) / 10, abs=1e-4)
    assert np.abs(grads["action_out_proj"]["kernel"]).max() > 1e-3
    # Only the conditional branch acted, so only its row has a gradient: there is no guidance.
    assert np.abs(grads["cond_embed"][POSITIVE]).max() > 0
    np.testing.assert_array_equal(grads["cond_embed"][UNCONDITIONAL], 0)
    assert not PG.has_guidance


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_a_good_chunk_becomes_more_likely_and_a_bad_one_less(params, windows, advantage):
    one = weighted(windows, advantage, 0, 0, 0)
    _, grads = gradient(PG, params, one, trained=PART)
    moved = jax.tree.map(lambda p, g: p - 1e-3 * g, {n: params[n] for n in PART}, grads)
    (loss, _), _ = gradient(PG, params | moved, one, trained=PART)
    # Of 10 executed steps the 4 of this window: loss = -0.4 A rho.
    ratio = -float(loss) / (0.4 * advantage)
    assert (ratio - 1) * advantage > 1e-4
    # Without an advantage there is nothing to learn.
    _, grads = gradient(PG, params, weighted(windows, 0, 0, 0, 0), trained=PART)
    for leaf in jax.tree.leaves(grads):
        np.testing.assert_array_equal(leaf, 0)


@pytest.mark.parametrize(
    ("advantage", "ratio", "loss", "clipped"),
    [
        (1.0, 1.1, -1.1, False),
        (1.0, 1.5, -1.2, True),  # 1 + clip_high
        (1.0, 0.5, -0.5, False),  # worse than before: pulled back
        (-1.0, 0.9, 0.9, False),
        (-1.0, 0.5, 0.8, True),  # 1 - clip_low
        (-1.0, 1.5, 1.5, False),  # more likely than before: pushed back
        (-1.0, 4.0, 3.0, True),  # dual_clip
        (-1.0, np.exp(30), 3.0, True),  # beyond what float32 could take
    ],
)
def test_the_clip(params, windows, advantage, ratio, loss, clipped):
    alike = weighted(shifted(windows, ratio), *[advantage] * 4)
    (found, metrics), grads = gradient(PG, params, alike, trained=PART)
    assert float(found) == pytest.approx(loss, rel=1e-3)
    assert float(metrics["clip_fraction"]) == float(clipped)
    largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(grads))
    assert (largest == 0.0) is clipped and np.isfinite(largest)


def test_metrics_by_hand(params, windows):
    """A ratio of 1.5 everywhere: its mean and maximum, and 1.5 - 1 - log 1.5."""
    (_, metrics), _ = gradient(PG, params, shifted(windows, 1.5), trained=PART)
    assert float(metrics["ratio_mean"]) == pytest.approx(1.5, rel=1e-4)
    assert float(metrics["ratio_max"]) == pytest.approx(1.5, rel=1e-3)
    assert float(metrics["approx_kl"]) == pytest.approx(0.5 - np.log(1.5), abs=1e-3)
    # Clipped where A > 0: 4 + 1 of 10 executed steps.
    assert float(metrics["clip_fraction"]) == pytest.approx(0.5)


def test_steps_that_were_not_executed_and_padded_dimensions_do_not_count(params, windows):
    masked = ~windows.action_mask
    old, chain = windows.chain_log_prob.copy(), windows.chain.copy()
    old[np.broadcast_to(masked[:, None], old.shape[:3])] = 50.0
    # The end of a chain is no input of the network, so only densities can see it.
    chain[:, -1][masked] = 9.0
    chain[:, -1, :, 7:] = 9.0
    changed = windows.replace(chain=chain, chain_log_prob=old)
    plain, other = (gradient(PG, params, one, trained=PART) for one in (windows, changed))
    chex.assert_trees_all_equal(plain, other)
    # While an executed step of the robot's own does count.
    chain[0, -1, 0, 0] += 1.0
    (_, metrics), _ = gradient(PG, params, windows.replace(chain=chain), trained=PART)
    assert float(metrics["approx_kl"]) > 0.01


class Still:
    """A network whose velocity is 0."""

    def encode_prefix(self, params, obs):
        return None

    def velocity(self, params, cache, state, x_t, time, ids):
        return jnp.zeros_like(x_t)


def by_still(windows: Batch) -> Batch:
    """The windows with the densities that their chains have under `Still`."""
    x, k = jnp.asarray(windows.chain), np.broadcast_to(np.arange(STEPS), (4, STEPS))
    mean, std = flow_sde.transition(x[:, :-1], 0 * x[:, :-1], k, STEPS, PG.noise_level)
    density = np.array(flow_sde.log_density(x[:, 1:], mean, std))
    return windows.replace(chain_log_prob=density[..., :7])


def test_the_mean_over_dimensions_and_a_ratio_per_step(windows):
    """The first of the steps became e^0.7 times as likely, in one of 7 dimensions."""
    one = shifted(by_still(windows), np.exp(0.7))

    def measured(**settings: Any) -> Any:
        network: Any = Still()
        return jax.jit(FlowPg(**settings).loss(network, SAMPLES, "embedding"))({}, one, KEY)[1]

    assert float(measured(log_prob="mean")["ratio_mean"]) == pytest.approx(np.exp(0.1), rel=1e-4)
    metrics = measured(ratio="step")
    assert float(metrics["ratio_max"]) == pytest.approx(np.exp(0.7), rel=1e-3)
    # 4 first steps among 10.
    assert float(metrics["ratio_mean"]) == pytest.approx(0.4 * np.exp(0.7) + 0.6, rel=1e-4)


def test_micro_batches_give_the_gradient_of_the_whole(params, windows):
    moved = shifted(windows, 1.1)
    (whole, metrics), grads = gradient(PG, params, moved, trained=PART)
    # One branch of the parameters: gradients are cut and added alike, whatever they are of.
    part = {"action_out_proj": params["action_out_proj"]}
    rest = {name: leaf for name, leaf in params.items() if name not in part}
    in_two = jax.jit(accumulated_gradient(PG.loss(MODEL, SAMPLES, "embedding"), 2))
    (parts, measured), summed = in_two(part, rest, moved, KEY)
    assert float(parts) == pytest.approx(float(whole), rel=1e-5)
    expected = {name: grads[name] for name in part}
    chex.assert_trees_all_close(summed, expected, rtol=1e-3, atol=2e-5)
    for name in ("ratio_mean", "clip_fraction", "approx_kl"):
        assert float(measured[name]) == pytest.approx(float(metrics[name]), abs=1e-5)


def test_the_flow_steps_of_a_window_are_all_different_as_long_as_there_are_enough(windows):
    def drawn(rows: int) -> np.ndarray:
        return np.asarray(PG.loss(MODEL, rows, "embedding").sample(KEY, windows))

    assert (np.sort(drawn(STEPS), axis=1) == np.arange(STEPS)).all()
    assert len({tuple(row) for row in drawn(STEPS)}) > 1  # other orders
    assert (drawn(5)[:, :4] == drawn(4)).all() and (drawn(5)[:, 4] == drawn(4)[:, 0]).all()
    many = np.concatenate(
        [PG.loss(MODEL, 1, "embedding").sample(jax.random.key(i), windows) for i in range(50)]
    )
    assert (np.bincount(many[:, 0], minlength=STEPS) > 30).all()  # of 200, 50 each on average


@pytest.mark.parametrize(
    ("preset", "micro_batches"), [("full", 1), ("lora", 2), ("expert_only", 2)]
)
def test_every_preset_can_be_trained(params, preset, micro_batches):
    """Traced only: shapes, and that no value is missing, whatever is trained."""
    shapes = abstract_batch(CONFIG, 2, 4, chain=(STEPS, 7))
    rules = (("loss/noise", 30.0),)
    optimizer = OptimizerConfig(1e-3, warmup_steps=1, rules=rules, preset=preset)
    hardware = Hardware(micro_batches=micro_batches)
    loss = LEARNED.loss(MODEL, SAMPLES, "embedding")
    job = Job(params, lambda remat: loss, optimizer, shapes, hardware)
    assert count(job).activations > 0
    state, metrics = jax.eval_shape(job.parts()[1], *job.shapes())
    assert state.params["loss"]["noise"].shape == (CONFIG.action_dim,)
    names = {"loss", "ratio_mean", "ratio_max", "clip_fraction", "approx_kl", "noise_level"}
    assert names <= metrics.keys()


def test_branches_by_prompt(params, blind_params, windows):
    """The conditional branch has its prompt, and no embedding: it acts as with one of zeros."""

    def acted(params: Any, branch_mode: str) -> Batch:
        folder = policy_folder(params)
        spec = dataclasses.replace(folder.spec, branch_mode=branch_mode)
        told = dataclasses.replace(folder, spec=spec)
        return acted_windows(Policy.from_folder(told, num_flow_steps=STEPS, rows=4))

    found, expected = acted(params, "prompt_dropout"), acted(blind_params, "embedding")
    np.testing.assert_allclose(found.chain, expected.chain, atol=1e-5)
    assert np.abs(found.chain - windows.chain).max() > 1e-3  # an embedding would be seen
    # Its likelihood is that of the same network: the loss works without an embedding.
    rest = {name: leaf for name, leaf in params.items() if name != "cond_embed"}
    jax.eval_shape(PG.loss(MODEL, SAMPLES, "prompt_dropout"), rest, found, KEY)
    with pytest.raises(KeyError, match="cond_embed"):
        jax.eval_shape(PG.loss(MODEL, SAMPLES, "embedding"), rest, found, KEY)


def learned_gradient(settings: FlowPg, windows: Batch) -> tuple[Any, np.ndarray]:
    """Metrics, and the gradient of the noise's parameter, float32[d], of `Still`."""
    network: Any = Still()
    network.config = CONFIG
    loss = settings.loss(network, STEPS, "embedding")
    run = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, metrics), grads = run({OWN: loss.own}, windows, KEY)
    return metrics, np.asarray(grads[OWN]["noise"])


def test_learned_noise_by_hand(windows):
    """What was drawn at the mean becomes less likely with more noise: -1 per log of the level.

    The level is the geometric mean of its bounds, so the sigmoid is 1/2, its slope 1/4 and the
    slope of log level log(4) / 4. A is 1, and each chunk has 4 steps.
    """
    start, k = jnp.asarray(windows.chain[:, :1]), jnp.zeros((4, 1), int)
    mean, std = flow_sde.transition(start, 0 * start, k, 1, 1.0)
    drawn = windows.replace(
        chain=np.concatenate([start, mean], axis=1),
        chain_log_prob=np.array(flow_sde.log_density(mean, mean, std))[..., :7],
        action_mask=np.ones_like(windows.action_mask),
        weight=np.ones(4, np.float32),
    )
    metrics, found = learned_gradient(LEARNED, drawn)
    assert float(metrics["ratio_mean"]) == pytest.approx(1, abs=1e-4)
    assert float(metrics["noise_level"]) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(found[:7], 4 * np.log(4) / 4, rtol=1e-3)
    assert not found[7:].any()  # dimensions that the robot has not


def test_a_level_stays_within_its_bounds():
    for raw, level in ((-50.0, 0.5), (0.0, 1.0), (50.0, 2.0)):
        found = LEARNED.noise_in({OWN: {"noise": np.full(8, raw, np.float32)}})
        np.testing.assert_allclose(found, np.full(8, level), rtol=1e-5)
    assert FlowPg(noise_level=0.7).noise_in({}) == 0.7


def test_windows_without_chains_are_refused(params):
    with pytest.raises(InputError, match="needs the chains of the chunks, but these windows have"):
        PG.loss(MODEL, 1, "embedding")(params, batch(4), KEY)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"noise_level": 0.0},
            r"noise_level must be a number in \[0.01, 100\], got 0.0",
        ),
        (
            {"learn_noise": True, "noise_level": 2.0},
            "must lie between noise_low 0.5 and noise_high 1.5 to be learned, got 2",
        ),
        ({"noise_low": 0.1}, r"noise_high are \(0.1, 1.5\), but the noise is not learned"),
        ({"clip_low": 1.0}, r"clip_low must be a number in \[0, 1\), got 1.0"),
        ({"clip_high": -0.1}, "rl.flow_pg.clip_high must be a number"),
        ({"dual_clip": 0.5}, "rl.flow_pg.dual_clip must be a number"),
        ({"log_prob": "max"}, "rl.flow_pg.log_prob must be one of 'sum', 'mean'"),
        ({"ratio": "token"}, "rl.flow_pg.ratio must be one of 'chunk', 'step'"),
    ],
)
def test_settings_out_of_range(changes, message):
    with pytest.raises(InputError, match=message):
        FlowPg(**changes)
