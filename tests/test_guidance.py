"""The points of a guidance sweep."""

from pi0_jax.rollout.guidance import PLAIN, Guidance, strongest, sweep


def test_scale_1_belongs_to_every_reference():
    assert sweep((0.0, 1.0, 1.5), ("unconditional", "base")) == (
        Guidance(0.0, "unconditional"), PLAIN, Guidance(1.5, "unconditional"),
        Guidance(0.0, "base"), Guidance(1.5, "base"),
    )  # fmt: skip
    assert sweep((2.0,), ()) == ()


def test_names():
    assert [p.suffix for p in sweep((1.0, 1.5), ("unconditional", "base"))] == [
        "1", "1.5", "1.5_base",
    ]  # fmt: skip
    assert str(Guidance(1.5, "base")) == "guidance 1.5 from base"
    assert str(PLAIN) == "guidance 1"


def test_the_strongest():
    points = sweep((0.0, 1.0, 3.0, 1.5), ("unconditional", "base"))
    assert strongest(points) == Guidance(3.0, "unconditional")
    assert strongest(sweep((0.0, 0.5, 1.0), ("base",))) is None
