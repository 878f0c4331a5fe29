"""Suites of LIBERO and LIBERO-PRO: those whose files are complete, and no others."""

import re

import pytest
from skips import needs_assets, needs_pro

from pi0_jax.configs.libero import get_config, tiny_tasks
from pi0_jax.env.robosuite import libero_suites
from pi0_jax.env.robosuite.libero_assets import assets
from pi0_jax.env.robosuite.libero_files import goal_file, initial_states
from pi0_jax.env.robosuite.libero_suites import SUITES, task_map, task_names
from pi0_jax.env.suite import make_suite
from pi0_jax.errors import InputError

# Objects whose models LIBERO-PRO never published, but for two.
_CUSTOM = {"red_sticker", "blue_red_sticker", "red_box", "libero_mug_yellow", "libero_mug_green"}


def complete(suite: str, models: set[str]) -> bool:
    """Whether every task has a goal, initial states, and a model of each object."""
    for name in task_map()[suite]:
        goal = goal_file(suite, name)
        if not goal.is_file() or _CUSTOM & {*re.findall(r"- (\w+)", goal.read_text())} - models:
            return False
        try:
            if not len(initial_states(suite, name)):
                return False
        except InputError:
            return False
    return True


@needs_assets
def test_the_suites_are_those_with_complete_files():
    models = {path.name for path in (assets("", pro=True) / "custom_objects").iterdir()}
    assert {suite for suite in task_map() if complete(suite, models)} == SUITES.keys()
    assert len(SUITES) == 33


@needs_pro
def test_every_suite_has_as_many_initial_states_as_it_says():
    for suite, facts in SUITES.items():
        if suite != "libero_90":  # the others are half of its number together
            counts = {len(initial_states(suite, name)) for name in task_names(suite)}
            assert counts == {facts.own_states}, suite


def test_step_limits_are_those_of_the_suite_that_is_changed():
    limits = {name: facts.max_steps for name, facts in SUITES.items()}
    assert {name: limits[name] for name in limits if not SUITES[name].pro} == {
        "libero_spatial": 220,
        "libero_object": 280,
        "libero_goal": 300,
        "libero_10": 520,
        "libero_90": 400,
    }
    assert (limits["libero_spatial_swap"], limits["libero_10_task"]) == (220, 520)
    assert limits["libero_goal_with_milk"] == 300


@needs_pro
@pytest.mark.parametrize(
    "make", [lambda name: make_suite(name, {}), lambda n: get_config(f"suite={n}")]
)
def test_a_suite_without_all_files_is_one_line(make):
    with pytest.raises(InputError, match=r"libero_goal_env: .* are missing there; docs") as e:
        make("libero_goal_env")
    assert "\n" not in str(e.value)


def test_a_suite_of_libero_pro_needs_its_package(monkeypatch):
    monkeypatch.setattr(libero_suites, "task_map", lambda: {"libero_goal": ("a",)})
    assert task_names("libero_goal") == ("a",)
    with pytest.raises(InputError, match="libero_goal_lan is a suite of LIBERO-PRO: install"):
        task_names("libero_goal_lan")


@needs_pro
@pytest.mark.parametrize("suite", [name for name in SUITES if tiny_tasks(name)])
def test_the_small_task_of_a_changed_suite_is_the_same_task(suite):
    """Some suites are in an order of their own, and put a scene before the name."""
    unchanged = SUITES[suite].changes or suite

    def name(suite: str) -> str:
        (number,) = tiny_tasks(suite)
        name = re.sub(r"^[A-Z_]+SCENE\d+_", "", task_names(suite)[number])
        return name.replace("pick_up_the_", "pick_the_").replace("the_akita_", "the_")

    assert name(suite) == name(unchanged)


def test_a_config_evaluates_on_as_many_states_as_there_are():
    assert get_config("suite=libero_goal_lan").eval.episodes == 50
    assert get_config("suite=libero_goal+libero_goal_with_milk").eval.episodes == 10
