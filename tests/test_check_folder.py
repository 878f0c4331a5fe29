"""What is wrong with a data set is said before it is learnt: all of it, a line each."""

import dataclasses
import io
import json
import re
import shutil
from pathlib import Path

import lerobot_folders
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_folders import FPS, LEROBOT, Sound
from PIL import Image

from pi0_jax.data.check import main
from pi0_jax.data.lerobot.check_folder import check_folder
from pi0_jax.data.lerobot.check_robot import check_numbers
from pi0_jax.data.lerobot.check_tasks import check_tasks
from pi0_jax.data.lerobot.findings import Finding, check_allowed, refuse
from pi0_jax.data.lerobot.folder import read_lerobot
from pi0_jax.data.lerobot.recording import Recording
from pi0_jax.errors import InputError
from pi0_jax.io.video import write_video
from pi0_jax.robot import Robot, named
from pi0_jax.robots import load_robot

SCENE, WRIST = LEROBOT["scene"], LEROBOT["wrist"]
PANDA = load_robot("libero_panda")


DATA = Sound(["lift", "stack", "lift"], [6, 5, 6])


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders without a fault by kind; each test spoils a copy."""
    made = {}
    for name, version, video in (("images", "v2.1", False), ("videos", "v2.1", True),
                                 ("many", "v3.0", True)):  # fmt: skip
        path = tmp_path_factory.mktemp("sound") / name
        made[name] = lerobot_folders.write(path, version, DATA, LEROBOT, video)
    return made


@pytest.fixture
def copied(sound, tmp_path):
    """Copies a sound folder."""
    return lambda name: Path(shutil.copytree(sound[name], tmp_path / "data"))


def found(path: Path, robot: Robot | None = PANDA) -> list[Finding]:
    return check_folder(read_lerobot(path, None), robot)


@pytest.mark.parametrize("name", ["images", "videos", "many"])
def test_a_sound_folder_has_a_note_at_most(sound, name):
    """Published LIBERO data too say 10 steps per second."""
    assert [one.kind for one in found(sound[name])] == ["rate"]


def rewrite(path: Path, name: str, of_rows, episode: int = 1) -> None:
    """Replaces a column of one episode of a version 2 folder."""
    file = next(path.rglob(f"episode_{episode:06d}.parquet"))
    table = pq.read_table(file)
    values = of_rows(table)
    at = table.column_names.index(name)
    pq.write_table(table.set_column(at, name, values), file)


def shorten_video(path: Path) -> None:
    file = next(path.rglob(f"*{SCENE}/episode_000001.mp4"))
    file.unlink()
    write_video(file, DATA.frames(1, "scene")[:-1], FPS)


def cut_video(path: Path) -> None:
    file = next(path.rglob(f"*{SCENE}/episode_000002.mp4"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def lfs(path: Path) -> None:
    for file in path.rglob(f"*{SCENE}/*.mp4"):
        file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 42\n")


def timestamps(change):
    return lambda path: rewrite(
        path, "timestamp", lambda t: pa.array(change(np.arange(len(t)) / FPS))
    )


def restart(path: Path) -> None:
    """The starts go on counting although a new video file began (lerobot PR#2453)."""
    file = next((path / "meta/episodes").rglob("*.parquet"))
    table = pq.read_table(file)
    name = f"videos/{SCENE}/from_timestamp"
    at = table.column_names.index(name)
    pq.write_table(table.set_column(at, name, pa.array([0.0, 0.6, 1.1])), file)


def paths(path: Path) -> None:
    rewrite(path, SCENE, lambda t: pa.array([{"bytes": None, "path": "a.png"}] * len(t)))


def raw(path: Path) -> None:
    rewrite(path, SCENE, lambda t: pa.array([[[0, 1, 2]]] * len(t)))


def half_a_png(path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)).save(
        file, "PNG"
    )
    cut = file.getvalue()[:1000]
    rewrite(path, SCENE, lambda t: pa.array([{"bytes": cut, "path": None}] * len(t)))


SPOILED = {
    "a video one frame short": (
        "videos", shorten_video, "pictures", r"no frame at 0.400 s, step 4 of episode 1 .its 4",
    ),
    "half a video": ("videos", cut_video, "pictures", "episode_000002.mp4: expected a video"),
    "git-lfs pointers": ("videos", lfs, "pictures", "a git-lfs pointer, not the file; run"),
    "a start that goes on counting": (
        "many", restart, "pictures", r"no frame at 1.100 s, step 0 of episode 2",
    ),
    "no time passes": (
        "videos", timestamps(lambda t: 0 * t), "times",
        r"episode 1: .* rise by 1/10 s, got 0.000 s at step 1, which should be 0.100 s",
    ),
    "time of day": ("images", timestamps(lambda t: 1.7e9 + t), "times", "got 1700000000.000 s"),
    "time of the whole set": ("videos", timestamps(lambda t: t + 0.6), "times", "got 0.600 s at"),
    "time that drifts": ("videos", timestamps(lambda t: 1.2 * t), "times", "0.360 s at step 3"),
    "paths in place of pictures": (
        "images", paths, "pictures", "has paths in place of 5 pictures; expected their bytes",
    ),
    "numbers in place of pictures": (
        "images", raw, "pictures", "holds list<.*, expected LeRobot's pictures {bytes, path}",
    ),
    "half a picture": ("images", half_a_png, "pictures", r"step 0: .*\(episode 1\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILED)
def test_a_fault_is_one_finding_that_stops(copied, name):
    kind, spoil, what, message = SPOILED[name]
    path = copied(kind)
    spoil(path)
    stops = [one for one in found(path) if one.stops]
    with pytest.raises(InputError, match=message):
        refuse(stops, path)
    assert {one.kind for one in stops} == {what}
    assert "allow" not in refused(stops, path)


def refused(findings: list[Finding], path: Path) -> str:
    with pytest.raises(InputError) as error:
        refuse(findings, path)
    assert "\n" not in str(error.value)
    return str(error.value)


def recording(state: np.ndarray, actions: np.ndarray) -> Recording:
    return Recording(("x",) * len(actions), state, actions, ())


def panda(state=None, actions=None, state_names=None) -> list[Finding]:
    """Findings of 300 sound steps of a Panda, of which some values are replaced."""
    rng = np.random.default_rng(0)
    good = np.tile(np.concatenate([np.linspace(-1, 1, 20), np.linspace(1, -1, 20)]), 8)[:300]
    moved = rng.uniform(-0.5, 0.5, (300, 7)) + 0.4 * good[:, None]
    moved[:, 6] = np.sign(good)
    seen = rng.uniform(-0.3, 0.3, (300, 8))
    seen[:, 6] = 0.02 - 0.001 * np.cumsum(np.sign(good)) + 1e-5 * seen[:, 0]
    for values, changes in ((seen, state or {}), (moved, actions or {})):
        for dim, change in changes.items():
            values[:, dim] = change(values[:, dim])
    names = named(state_names, "") if state_names else PANDA.state
    described = dataclasses.replace(PANDA, state=names)
    return check_numbers([recording(seen, moved)], described, PANDA)


CONVENTIONS = {
    "sound": ({}, [], ""),
    "gripper of 0 and 1": (
        {"actions": {6: lambda x: (x < 0) * 1.0}}, ["gripper", "gripper"],
        r"action gripper goes from 0 to 1, the robot's gripper has -1 to open and 1 to close",
    ),
    "gripper of the other sign": (
        {"actions": {6: lambda x: -x}}, ["gripper"],
        "the fingers open where action gripper is high and close where it is low",
    ),
    "absolute actions": (
        {"actions": {0: lambda x: x + 3.1}}, ["limits"],
        r"action x goes from 2\.\d* to 3\.9\d*, the robot's limits are -1 to 1 \(100.0% of",
    ),
    "degrees": (
        {"state": {3: lambda x: 300 * x}}, ["units"],
        "state axis_angle_x reaches 89.3 and is in rad: is it in degrees",
    ),
    "a state that stands still": (
        {"state": {7: lambda x: 0 * x - 0.04}}, ["still"],
        "state right_finger hardly moves: standard deviation .* m",
    ),
    "joints in place of a hand": (
        {"state_names": [f"joint_{i}" for i in range(7)] + ["gripper"]}, ["names"],
        "state are joint_0, .*; those of robot libero_panda are x, y, z",
    ),
    "another order": (
        {"state_names": [d.name for d in PANDA.state][::-1]}, ["names"],
        "state are in another order: right_finger, left_finger, .*; the robot has x, y",
    ),
    "names of nobody": ({"state_names": [f"state_{i}" for i in range(8)]}, [], ""),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVENTIONS)
def test_data_of_another_convention(name, tmp_path):
    changes, kinds, message = CONVENTIONS[name]
    findings = panda(**changes)
    assert [one.kind for one in findings] == kinds
    stops = [one for one in findings if one.stops]
    if stops:
        with pytest.raises(InputError, match=message):
            refuse(stops, tmp_path)
        assert f'--config.demonstrations.allow="({stops[0].kind!r},)"' in refused(stops, tmp_path)
        refuse(stops, tmp_path, allowed=[stops[0].kind])
    elif findings:
        assert re.search(message, findings[0].text)


def test_degrees_that_are_rad():
    arm = load_robot("so101_degrees")
    rng = np.random.default_rng(0)
    values = rng.uniform(-1, 1, (50, 6))
    values[:, 5] = rng.uniform(0, 100, 50)
    kinds = [(one.kind, one.text) for one in check_numbers([recording(values, values)], arm, arm)]
    assert [kind for kind, _ in kinds] == ["units", "units"]
    assert "no state in degrees reaches more than" in kinds[0][1]


def test_another_number_of_values():
    one = recording(np.zeros((3, 8)), np.zeros((3, 7)))
    assert [f.kind for f in check_numbers([one], PANDA, load_robot("aloha"))] == ["widths"]
    with pytest.raises(InputError, match=r"states of 14 and actions of 14 dimensions, as aloha"):
        refuse(check_numbers([one], PANDA, load_robot("aloha")), Path("data"), ["limits"])


def test_tasks_that_nobody_shows_and_spellings():
    one = Recording(("Turn on_the stove.",), np.zeros((1, 1)), np.zeros((1, 1)), ())
    other = dataclasses.replace(one, prompts=("turn on the stove",))
    wanted = ["turn on the stove", "open the drawer"]
    texts = [f.text for f in check_tasks([one], ["Turn on_the stove."], wanted)]
    assert texts[0].startswith("no episode shows the task 'turn on the stove'; 'Turn on_the stov")
    assert texts[1] == "no episode shows the task 'open the drawer'"
    spelled = check_tasks([one, other], [], None)
    assert [f.stops for f in spelled] == [False]
    assert spelled[0].text.startswith("one task in 2 spellings: 'Turn on_the stove.', 'turn on")
    silent = dataclasses.replace(one, prompts=("  ",), number=7)
    assert "1 episodes have no instruction, such as 7" in check_tasks([silent], [], None)[0].text


def test_only_what_is_a_matter_of_opinion_can_be_let_pass():
    check_allowed("demonstrations.allow", ("limits", "gripper"))
    with pytest.raises(InputError, match=r"takes limits, gripper, .*, got 'rows'"):
        check_allowed("demonstrations.allow", ("rows",))


def test_the_command_lists_all_and_draws(copied, tmp_path, capsys):
    path = copied("videos")
    shorten_video(path)
    cut_video(path)
    sheet = tmp_path / "sheet.png"
    assert main([str(path), "--robot", "libero_panda", "--sheet", str(sheet)]) == 1
    said = capsys.readouterr().out
    assert said.count("error (pictures)") == 2 and "note (rate)" in said
    assert "3 of 3 episodes, 17 steps" in said and "2 errors, 1 notes" in said
    drawn = np.asarray(Image.open(sheet))
    # Three episodes with two cameras at three steps, 128 px each; the first is black, then lighter.
    assert drawn.shape == (14 + 3 * (128 + 14 + 4), 4 + 6 * (128 + 4), 3)
    assert abs(int(drawn[100, 330, 0]) - DATA.grey(0, 5, "scene")) < 6
    assert main([str(path), "--cameras", "image2", "--sheet", str(sheet)]) == 0


def test_the_command_and_what_is_no_folder(tmp_path):
    with pytest.raises(InputError, match="expected a LeRobot folder with meta/"):
        main([str(tmp_path)])
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_text(json.dumps({"codebase_version": "v9"}))
    with pytest.raises(InputError, match=r"expected LeRobot v2\.0"):
        main([str(tmp_path)])
