"""The one error, and what it must list."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi0_jax.errors import InputError
from pi0_jax.io import tree_check


def test_every_difference_is_one_line() -> None:
    expected = {"a": (2, 3), "b": (4,), "c": (0, 5)}
    found = {"a": (3, 2), "b": (4,), "d": ()}
    assert tree_check.compare(expected, found) == [
        "missing c, shape [?, 5]",
        "unexpected d, shape []",
        "a: expected shape [2, 3], got shape [3, 2]",
    ]


def test_equal_trees_have_no_difference() -> None:
    assert tree_check.compare({"a": (2, 3), "b": ()}, {"b": (), "a": (2, 3)}) == []


def test_integers_are_no_weights() -> None:
    found = {"a": "bfloat16", "b": "int8", "c": "float64", "d": "float16"}
    problems = tree_check.dtypes(found)
    assert [line.split(":")[0] for line in problems] == ["b", "c"]
    assert problems[0].endswith("got int8")


@given(
    dtype=st.sampled_from(["float32", "bfloat16", "float16"]),
    bad=st.sampled_from([np.nan, np.inf, -np.inf]),
    size=st.integers(1, 3000),
    data=st.data(),
)
def test_one_bad_value_anywhere_is_found(
    dtype: str, bad: float, size: int, data: st.DataObject
) -> None:
    x = np.full(size, 3.0, np.dtype(dtype))
    assert tree_check.is_finite(x) and tree_check.is_finite(-x)
    x[data.draw(st.integers(0, size - 1))] = bad
    assert not tree_check.is_finite(x)


def test_the_largest_bfloat16_is_finite_and_a_turned_array_is_looked_at_too() -> None:
    largest = ml_dtypes.finfo(ml_dtypes.bfloat16).max
    x = np.array([[largest, -largest], [0, 1]], ml_dtypes.bfloat16)
    assert tree_check.is_finite(x.T)


def test_the_error_counts_and_lists() -> None:
    with pytest.raises(InputError, match=r"^file: 2 problems: a; b$"):
        tree_check.fail("file", ["a", "b"])
    with pytest.raises(InputError, match=r"^file: 1 problem: a$"):
        tree_check.fail("file", iter(["a"]))


def test_shapes_are_listed_by_path_in_the_trees_order() -> None:
    tree = {"c": np.ones(1), "a": {"b": np.ones((2, 3))}}
    assert list(tree_check.shapes_by_path(tree).items()) == [("a/b", (2, 3)), ("c", (1,))]


def test_arrays_that_are_not_finite_are_named() -> None:
    arrays = {"a": np.ones(2), "b": np.array([1, np.nan]), "c": np.array(-np.inf)}
    assert tree_check.not_finite(arrays.items()) == ["b: NaN or infinity", "c: NaN or infinity"]


def test_a_tree_that_fits_passes_and_one_that_does_not_has_all_its_faults_listed() -> None:
    expected = {"a/w": (2,), "a/b": (1,), "c": (3,)}
    tree_check.check_tree({"a": {"w": np.ones(2), "b": np.ones(1)}, "c": np.ones(3)}, expected, "p")
    tree = {"a": {"w": np.array([np.nan, 1]), "x": np.ones(())}, "c": np.ones(4)}
    with pytest.raises(InputError) as error:
        tree_check.check_tree(tree, expected, "p")
    assert str(error.value) == (
        "p: 4 problems: missing a/b, shape [1]; unexpected a/x, shape []; "
        "c: expected shape [3], got shape [4]; a/w: NaN or infinity"
    )
