"""Suites by name, and who demonstrates them."""

import dataclasses
import functools

import pytest

from pi0_jax.env import suite
from pi0_jax.env.demonstrator import DemonstratorConfig
from pi0_jax.env.robosuite.lift import LiftTask
from pi0_jax.env.scripted import ScriptedTask
from pi0_jax.env.suite import Suite, make_suite, task_options
from pi0_jax.errors import InputError


def test_options_reach_task_and_expert():
    options = {"max_steps": 9, "demonstrator": {"offset_sigma": 0.5}}
    made = make_suite("scripted", options)
    assert made.name == "scripted"
    assert made.tasks == (ScriptedTask(max_steps=9),)
    assert made.style.offset_sigma == 0.5
    assert options == {"max_steps": 9, "demonstrator": {"offset_sigma": 0.5}}  # left as given
    assert isinstance(make_suite("lift", {}).tasks[0], LiftTask)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("libreo", {}, r"suite must be one of \[.*'lift'.*\], or several, got 'libreo'"),
        ("scripted+libreo", {}, "got 'libreo'"),
        ("scripted+scripted", {}, "suite names each suite once, got 'scripted.scripted'"),
        ("scripted+lift", {"max_steps": 9, "image_size": 16}, "have different robots"),
        ("scripted", {"speeed": 1}, "task.speeed of suite 'scripted'; .* is task.speed"),
        ("scripted", {"demonstrator": 3}, "task.demonstrator is a section of several keys, got 3"),
        ("scripted", {"demonstrator": {"hoover": 1}}, "nearest .* is task.demonstrator.hover"),
        ("libero_10", {"tasks": 3}, "config.task of suite 'libero_10'"),
    ],
)
def test_mistakes_are_named(name, options, message):
    with pytest.raises(InputError, match=message):
        make_suite(name, options)


def test_the_options_of_a_suite_are_the_fields_of_its_task_and_of_its_demonstrator():
    assert task_options("lift") == {
        "placement": 0.06,
        "image_size": 64,
        "max_steps": 48,
        "demonstrator": dataclasses.asdict(DemonstratorConfig()),
    }
    names = {"tasks", "assets", "image_size", "pictures", "instructions", "demonstrator"}
    assert task_options("libero_10+libero_goal").keys() == names
    assert task_options("scripted+lift").keys() == {"image_size", "max_steps", "demonstrator"}


def test_each_of_several_suites_has_tasks_of_its_own(monkeypatch):
    found = []

    def tasks_of(name: str, tasks=(), instructions=(), speed=0):
        found.append((name, tasks, instructions, speed))
        return (ScriptedTask(name=name),)

    for name in ("lift", "scripted"):
        monkeypatch.setitem(suite._SUITES, name, functools.partial(tasks_of, name))
    make_suite("lift+scripted", {"tasks": [[0, 3], [8]], "instructions": ("go",), "speed": 2})
    assert found == [("lift", [0, 3], ("go",), 2), ("scripted", [8], ("go",), 2)]
    for wrong in ([[0, 3]], [[0], 8]):
        with pytest.raises(InputError, match=r"tasks: expected one tuple per suite of lift"):
            make_suite("lift+scripted", {"tasks": wrong})


def test_tasks_take_turns_in_demonstrations():
    tasks = (ScriptedTask(name="a"), ScriptedTask(name="b"))
    jobs = Suite("two", tasks, make_suite("scripted", {}).style).demonstrations(range(5, 8))
    assert [(job.task.name, job.args[0]) for job in jobs] == [("a", 5), ("b", 6), ("a", 7)]
    episode = jobs[1].function(jobs[1].task.build(), *jobs[1].args)
    assert (episode.task, episode.seed, episode.optimizer_step) == ("b", 6, -1)
