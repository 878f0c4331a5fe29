"""Schedule, rules and the chain on numbers that can be worked out."""

import jax.numpy as jnp
import numpy as np
import pytest

from pi0_jax.errors import InputError
from pi0_jax.training.optimizer import (
    PRESETS,
    OptimizerConfig,
    check_rules,
    learning_rate,
    make_optimizer,
    multiplier,
)

RULES = (("head/bias", 0.0), ("head/.*", 3.0), (".*embed", 10.0))


def config(**changes) -> OptimizerConfig:
    values = {"learning_rate": 0.1, "warmup_steps": 0, "final_fraction": 1.0, "rules": RULES}
    return OptimizerConfig(**values | changes)


def run(optimizer, params, gradients):
    """Parameters after one update a gradient."""
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = {path: params[path] + updates[path] for path in params}
    return params


def test_the_first_rule_that_matches_the_whole_path_decides():
    assert multiplier("head/bias", RULES) == 0.0
    assert multiplier("head/kernel", RULES) == 3.0
    assert multiplier("cond_embed", RULES) == 10.0
    assert multiplier("old/head/kernel", RULES) == 1.0
    assert multiplier("embedding", RULES) == 1.0


def test_schedule_by_hand():
    """Warm-up 0 to 1 in 10 steps, then a cosine down to 0.2 at step 110."""
    rate = learning_rate(OptimizerConfig(1.0, warmup_steps=10, final_fraction=0.2), 110)
    expected = {0: 0.0, 5: 0.5, 10: 1.0, 60: 0.6, 110: 0.2, 500: 0.2}
    for step, value in expected.items():
        assert float(rate(step)) == pytest.approx(value, abs=1e-6), step


def test_a_warm_up_longer_than_training():
    rate = learning_rate(OptimizerConfig(1.0, warmup_steps=10), total_steps=4)
    assert float(rate(4)) == pytest.approx(0.4)


def test_multipliers_scale_the_step():
    """Adam's first step is the learning rate against the gradient's sign, whatever its size."""
    params = {"head/kernel": jnp.zeros(2), "cond_embed": jnp.zeros(2), "body": jnp.zeros(2)}
    gradient = {path: jnp.array([1.0, -3.0]) for path in params}
    moved = run(make_optimizer(config(), 100), params, [gradient])
    for path, factor in {"head/kernel": 3, "cond_embed": 10, "body": 1}.items():
        np.testing.assert_allclose(moved[path], [-0.1 * factor, 0.1 * factor], rtol=1e-4)


def test_gradients_are_clipped_by_their_common_norm():
    """Gradients of norm 1000 and of norm 1 then count the same in Adam's averages."""
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    unit = {"a": jnp.array([0.6]), "b": jnp.array([-0.8])}
    huge = {path: 1000 * g for path, g in unit.items()}
    optimizer = make_optimizer(config(clip_norm=1.0), 100)
    a, b = run(optimizer, params, [huge, unit]), run(optimizer, params, [unit, unit])
    loose = run(make_optimizer(config(clip_norm=1e6), 100), params, [huge, unit])
    for path in params:
        np.testing.assert_allclose(a[path], b[path], rtol=1e-5)
        assert abs(loose[path] - b[path]) > 0.01


def test_a_row_apart_is_clipped_by_its_own_norm():
    """Of 5 and of 500: the other row, of 5 too, and the leaf move as if the row were 0."""
    params = {"a": jnp.zeros(2), "embed": jnp.zeros((2, 2))}
    size_5, unit = np.array([3.0, -4.0], np.float32), np.array([0.6, 0.8], np.float32)

    def gradients(first, then):
        """Two in a row: how the first was clipped shows in Adam's averages after the second."""
        rest = ({"a": size_5, "row": size_5}, {"a": unit, "row": unit})
        return [
            {"a": jnp.array(x["a"]), "embed": jnp.array([row, x["row"]])}
            for x, row in zip(rest, (first, then), strict=True)
        ]

    def moved(apart, first, then):
        optimizer = make_optimizer(config(clip_norm=1.0, rules=()), 100, apart)
        return run(optimizer, params, gradients(first, then))

    row = ("embed", 0)
    without, huge = moved(None, 0 * unit, 0 * unit), moved(row, 100 * size_5, unit)
    np.testing.assert_array_equal(huge["a"], without["a"])
    np.testing.assert_array_equal(huge["embed"][1], without["embed"][1])
    # The row of 500 is clipped to 1: it then moves as one of 1 does.
    own = moved(row, size_5 / 5, unit)
    np.testing.assert_allclose(huge["embed"][0], own["embed"][0], rtol=1e-5)
    # In one norm with the row of 500, the first gradient of the rest hardly counts.
    together = moved(None, 100 * size_5, unit)
    assert np.abs(together["a"] - without["a"]).min() > 0.01
    # Where its leaf is frozen there is nothing to clip apart.
    frozen = make_optimizer(config(rules=()), 100, ("embed", 0))
    assert run(frozen, {"a": jnp.zeros(2)}, [{"a": jnp.array(unit)}])["a"][0] < 0


def test_weight_decay_is_decoupled():
    """Without a gradient only the decay moves a parameter: by rate x decay x multiplier."""
    params = {"head/kernel": jnp.array([2.0]), "body": jnp.array([2.0])}
    still = {path: jnp.zeros(1) for path in params}
    moved = run(make_optimizer(config(weight_decay=0.5), 100), params, [still])
    assert moved["body"] == pytest.approx(2 - 0.1 * 0.5 * 2)
    assert moved["head/kernel"] == pytest.approx(2 - 3 * 0.1 * 0.5 * 2)


def test_rules_must_match_something():
    paths = ["head/kernel", "head/bias", "cond_embed"]
    check_rules(paths, RULES)
    with pytest.raises(InputError, match=r"'con_embed' matches no parameter, e.g. 'head/kernel'"):
        check_rules(paths, (*RULES, ("con_embed", 0.0)))
    with pytest.raises(InputError, match="every parameter is frozen"):
        check_rules(paths, ((".*", 0.0),))


def test_what_each_preset_trains():
    """By a few names of the official tree; the image tower has names that look like expert 1's."""
    names = (
        "PaliGemma/img/Transformer/encoderblock/MlpBlock_0/Dense_1/kernel",
        "PaliGemma/llm/embedder/input_embedding",
        "PaliGemma/llm/layers/attn/q_einsum/w",
        "PaliGemma/llm/layers/attn/q_einsum_1/w",
        "PaliGemma/llm/final_norm_1/scale",
        "lora/layers/attn/q_einsum/w/a",
        "state_proj/kernel",
        "cond_embed",
    )
    trained = {
        preset: [
            bool(multiplier(name, OptimizerConfig(1.0, 0, preset=preset).all_rules))
            for name in names
        ]
        for preset in PRESETS
    }
    assert trained == {
        "full": [True] * 8,
        "expert_only": [False, False, False, True, True, True, True, True],
        "lora": [False, False, False, False, False, True, True, True],
    }
    own = OptimizerConfig(1.0, 0, preset="expert_only", rules=(("cond_embed", 20.0),))
    assert multiplier("cond_embed", own.all_rules) == 20.0
    with pytest.raises(InputError, match="preset must be one of"):
        OptimizerConfig(1.0, 0, preset="head")
    with pytest.raises(InputError, match=r"ema_decay must be a number in \[0, 1\), got 1.0"):
        OptimizerConfig(1.0, 0, ema_decay=1.0)
