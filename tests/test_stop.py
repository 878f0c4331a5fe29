"""When to stop: on numbers that can be worked out."""

from pi0_jax.rl.stop import beyond


def test_what_lies_above_its_bound():
    assert beyond({"drift": 0.5}, {"drift": 0.714, "loss": 9.0}) == ["drift 0.714 is above 0.5"]
    assert beyond({"drift": 0.5}, {"drift": 0.5}) == []
    assert beyond({}, {"drift": 9.0}) == []
    # A loss of one's own, which measures something else.
    assert beyond({"drift": 0.5}, {"loss": 9.0}) == []
