"""One control step, as both simulators of robosuite make it, with a stand-in for the physics."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pi0_jax.env.robosuite.libero_simulator import LiberoSimulator
from pi0_jax.env.robosuite.lift_simulator import LiftSimulator
from pi0_jax.env.robosuite.panda_simulator import environment_options


def simulator(kind: type[Any], calls: list[str]) -> Any:
    """A simulator that only notes what it does; a burner lights up at the end of a step."""
    model = SimpleNamespace(site_rgba=np.zeros(1))

    def act(action: np.ndarray) -> None:
        calls.append(f"act {action.dtype} {action.tolist()}")

    def check_success() -> np.bool_:
        calls.append("success?")
        return np.True_

    def post_process() -> None:
        calls.append("burners")
        model.site_rgba[0] = 1.0

    made = object.__new__(kind)
    made._arm = SimpleNamespace(model=model, act=act, look=lambda: calls.append("look"))
    made._env = SimpleNamespace(_check_success=check_success, _post_process=post_process)
    return made


@pytest.mark.parametrize(("kind", "between"), [(LiftSimulator, []), (LiberoSimulator, ["burners"])])
def test_a_step_acts_asks_for_success_and_looks_in_this_order(
    kind: type[Any], between: list[str]
) -> None:
    calls: list[str] = []
    assert simulator(kind, calls).step(np.array([0.5, -1], np.float32)) is True
    assert calls == ["act float64 [0.5, -1.0]", "success?", *between, "look"]


def test_libero_shows_a_burner_as_it_was_before_the_end_of_the_step() -> None:
    made = simulator(LiberoSimulator, [])
    made.step(np.zeros(7))
    assert (made._seen_rgba[0], made._arm.model.site_rgba[0]) == (0.0, 1.0)


def test_the_options_of_an_environment() -> None:
    found = environment_options(("front", "wrist"), 64)
    assert found["camera_names"] == ["front", "wrist"]
    assert (found["camera_heights"], found["camera_widths"]) == (64, 64)
    assert (found["control_freq"], found["ignore_done"], found["hard_reset"]) == (20, True, False)
