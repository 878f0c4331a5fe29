"""A flat key gives the numbers of the key that it was made of, from draws along one axis."""

import jax
import numpy as np
import pytest

from pi0_jax.model.draw import flat_key

KEY = jax.random.key(3)


def draws(key: jax.Array) -> dict[str, jax.Array]:
    """What the library draws: of itself, of keys split from it and folded, and of a stack."""
    first, second = jax.random.split(key)
    return {
        "normal": jax.random.normal(key, (3, 2, 4, 5)),
        "uniform": jax.random.uniform(first, (3, 2, 2), minval=-1.0),
        "folded in": jax.random.truncated_normal(jax.random.fold_in(second, 7), -2, 2, (6, 4)),
        "stack": jax.vmap(lambda k: jax.random.normal(k, (2, 3)))(jax.random.split(key, 2)),
        "scalar": jax.random.bernoulli(key),
    }


def test_the_numbers_are_those_of_the_key_to_the_bit():
    found, expected = jax.jit(lambda: draws(flat_key(KEY)))(), jax.jit(lambda: draws(KEY))()
    for name, numbers in expected.items():
        np.testing.assert_array_equal(found[name], numbers, err_msg=name)


@pytest.mark.parametrize(("key", "axes"), [(KEY, "3x2x4"), (flat_key(KEY), "24")], ids=str)
def test_bits_are_mixed_along_one_axis(key, axes):
    program = jax.jit(lambda: jax.random.bits(key, (3, 2, 4))).lower().as_text()
    mixed = [line.split()[-1] for line in program.splitlines() if "stablehlo.xor" in line]
    assert set(mixed) == {"tensor<ui32>", f"tensor<{axes}xui32>"}


@pytest.mark.parametrize(
    "key", [lambda: jax.random.key(0, impl="rbg"), lambda: flat_key(KEY)], ids=["rbg", "flat"]
)
def test_another_generators_key_stays_as_it_is(key):
    made = key()
    assert flat_key(made) is made


def test_so_does_a_key_whose_numbers_depend_on_the_size():
    with jax.threefry_partitionable(False):
        assert flat_key(KEY) is KEY


def test_an_old_key_is_taken_too():
    old = jax.random.normal(flat_key(jax.random.PRNGKey(3)), (2, 3))
    np.testing.assert_array_equal(old, jax.random.normal(KEY, (2, 3)))
