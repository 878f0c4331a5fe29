"""The FLOP counter, by hand and against the roofline arithmetic of the published sizes."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from pi0_jax.model.config import pi05

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture(scope="module")
def flops():
    """The module bench/flops.py, which lies beside what it imports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(BENCH), *sys.path])
        import flops

        yield flops


def test_loops_count_as_often_as_they_run(flops):
    """A product [3, 4] x [4, 5] is 2 * 3 * 4 * 5 = 120 FLOPs."""
    a, b = jnp.ones((3, 4)), jnp.ones((4, 5))

    def seven(a, b):
        start = jnp.zeros((3, 5))
        return jax.lax.fori_loop(0, 7, lambda i, s: s + jax.jit(jnp.matmul)(a, b), start)

    assert flops.traced(jnp.matmul, a, b) == 120
    assert flops.traced(seven, a, b) == 7 * 120
    batched = flops.traced(jax.vmap(jnp.matmul), jnp.ones((2, 3, 4)), jnp.ones((2, 4, 5)))
    assert batched == 240


def test_a_branch_counts_as_often_as_it_is_taken(flops):
    """Six of seven layers multiply; the last does not."""
    a = jnp.ones((3, 3))

    def layers(a):
        def step(x, last):
            return jax.lax.cond(last, lambda x: x, lambda x: x @ a, x), None

        return jax.lax.scan(step, a, jnp.arange(7) == 6)[0]

    assert flops.traced(layers, a) == 6 * 2 * 27
    with pytest.raises(ValueError, match="while"):
        flops.traced(lambda n: jax.lax.fori_loop(0, n, lambda i, x: x @ x, a), 3)


def test_the_published_size(flops):
    """I + P + S with a trimmed last layer is 2.618 TF; the second branch S = 0.0367 TF."""
    image, prefix, suffix = 0.440353161216, 2.1412, 0.036681629696
    plain = flops.update_flops(lambda model: flops.flow_matching_loss(model, 1)) / flops.TERA
    cfg = flops.update_flops(lambda model: flops.Cfg(0.1).loss(model, 1, "embedding")) / flops.TERA
    # Pixels have no gradient: a little less than three times the forward pass.
    assert plain == pytest.approx(3 * (image + prefix + suffix), rel=1e-3)
    assert cfg - plain == pytest.approx(3 * suffix, rel=1e-3)
    assert cfg / plain < 1.06
    # A flow step of a policy gradient costs what a noise/time sample costs.
    gradient = flops.update_flops(lambda model: flops.FlowPg().loss(model, 2, "embedding"))
    assert gradient / flops.TERA == pytest.approx(plain + 3 * suffix, rel=1e-3)
    sampled = flops.sample_flops(1.0) / flops.TERA
    assert sampled == pytest.approx(image + prefix + 10 * suffix, rel=1e-4)
    assert flops.sample_flops(2.0) / flops.TERA / sampled < 1.20


def test_what_an_objective_adds_to_filtered_bc(flops):
    """A pass is 1 forward, 2 back (gradients of activations, and of weights); S of the expert."""
    image, prefix, suffix = 0.440353161216, 2.1412, 0.036681629696

    def more(objective, preset: str) -> float:
        pair = (flops.objective_flops(one, preset) for one in (objective, flops.FilteredBc()))
        return (next(pair) - next(pair)) / flops.TERA

    # Forward, and back to the row of the embedding, without weights.
    assert more(flops.CfgDetached(), "expert_only") == pytest.approx(2 * suffix, rel=0.02)
    # The velocity of the acting parameters: with a prefix of its own where it is trained.
    assert more(flops.Nft(), "expert_only") == pytest.approx(suffix, rel=1e-3)
    assert more(flops.Nft(), "full") == pytest.approx(image + prefix + suffix, rel=1e-3)


def test_pi05_by_hand(flops):
    """A prompt of 200 tokens, 50 suffix tokens, and norms that a matrix of the clock modulates."""
    config, image = pi05(), 0.440353161216
    p, s, vlm, w, heads = 512 + 200, 50, 2048, 1024, 2048

    def layer(tokens, keys, width, mlp):
        """Queries, keys and values, output, gated MLP, and logits and weighted values."""
        return 2 * tokens * (width * (2 * heads + 512 + 3 * mlp) + 2 * keys * heads)

    # Of the last prefix layer nothing but keys and values.
    prefix = 17 * layer(p, p, vlm, 16384) + 2 * p * vlm * 512
    # Two norms per layer and the last one; the time MLP; the projections of actions in and out.
    clock = 2 * 37 * w * 3 * w + 2 * 2 * w * w
    suffix = 18 * layer(s, p + s, w, 4096) + clock + 2 * 2 * s * 32 * w
    sampled = flops.sample_flops(1.0, config=config)
    assert sampled == pytest.approx(image * flops.TERA + prefix + 10 * suffix, rel=1e-5)
