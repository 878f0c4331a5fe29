"""The command that makes a LeRobot folder of a run, or of LIBERO's own HDF5 files."""

import json
import runpy
import sys
from dataclasses import replace

import numpy as np
import pytest
from skips import NO_H5PY

from pi0_jax.apps import export
from pi0_jax.apps.export_rows import advantages, rows
from pi0_jax.apps.settings import train_config
from pi0_jax.data.lerobot.folder import read_lerobot
from pi0_jax.data.libero_hdf5 import read_libero_hdf5
from pi0_jax.env.demonstrator import demonstrate
from pi0_jax.env.suite import make_suite
from pi0_jax.episode import without_images
from pi0_jax.errors import InputError
from pi0_jax.io.episodes import save_episodes

TASK = {"max_steps": 9, "image_size": 32, "demonstrator": {"render_every": 4}}


@pytest.fixture(scope="module")
def episodes():
    """Three demonstrations of the scripted task, with a picture every four steps."""
    suite = make_suite("scripted", TASK)
    simulator = suite.tasks[0].build()
    robot = replace(suite.robot, control_hz=None)
    return [replace(demonstrate(simulator, s, suite.style), robot=robot) for s in (3, 4, 5)]


@pytest.fixture
def run(tmp_path, episodes):
    """A run folder with demonstrations, an iteration of RL without pictures, and an evaluation."""
    folder = tmp_path / "run"
    save_episodes(folder / "episodes" / "demonstrations.npz", episodes[:2])
    lost = replace(episodes[2], error="the simulator died")
    rollouts = [without_images(replace(episodes[2], optimizer_step=7)), lost]
    save_episodes(folder / "episodes" / "ript" / "001.npz", rollouts)
    save_episodes(folder / "episodes" / "eval" / "ript_1.npz", episodes[:1])
    config = train_config("scripted").to_dict() | {
        "task": TASK, "execute_steps": 4, "model": "tiny", "seed": 0,
        "eval": {"episodes": 1, "first_seed": 0, "guidance": (1.0,)},
        "pool": {"workers": 1, "timeout_s": 60.0},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps({"config": config}))
    return folder


def test_demonstrations_show_the_newest_picture_there_is(tmp_path, run, episodes, capsys):
    out = tmp_path / "out"
    export.main([str(run), str(out), "--episodes=demonstrations", "--pictures=png", "--fps=20"])
    assert capsys.readouterr().out == f"{out}: 2 episodes\n"
    folder = read_lerobot(out, None)
    assert folder.findings == ()
    for recording, episode in zip(folder.recordings, episodes, strict=False):
        np.testing.assert_array_equal(recording.state, episode.state)
        np.testing.assert_array_equal(recording.actions, episode.actions)
        for step in range(len(recording)):
            seen = [pictures.read(step) for pictures in recording.pictures]
            np.testing.assert_array_equal(seen, episode.images[step // 4])
    # Windows start where a picture is a step's own, so what is learnt is what the run learnt.
    assert (
        folder.recordings[0].starts(4, skip_short=False).tolist()
        == episodes[0].image_steps.tolist()
    )


def test_successes_alone(tmp_path, run, episodes):
    """A failure's row is left out; the advantages of the others are still against it."""
    failed, solved = (replace(episodes[i], success=bool(i)) for i in (0, 1))
    save_episodes(run / "episodes" / "demonstrations.npz", [failed, solved])
    arguments = [str(run), "--episodes=demonstrations", "--pictures=png", "--fps=20", "--successes"]
    export.main([*arguments[:1], str(tmp_path / "out"), *arguments[1:]])
    (recording,) = read_lerobot(tmp_path / "out", None).recordings
    np.testing.assert_array_equal(recording.actions, episodes[1].actions)
    save_episodes(run / "episodes" / "demonstrations.npz", [failed])
    with pytest.raises(InputError, match="at least one episode that solved its task"):
        export.main([*arguments[:1], str(tmp_path / "none"), *arguments[1:]])


def test_with_full_pictures_the_simulator_shows_every_step(tmp_path, run, episodes):
    """Rollouts too, of which the run kept no pictures; failures of a simulator are left out."""
    out = tmp_path / "out"
    export.main([str(run), str(out), "--full-pictures", "--pictures=png", "--fps=20"])
    folder = read_lerobot(out, None)
    assert len(folder.recordings) == 3
    simulator = make_suite("scripted", TASK).tasks[0].build()
    for recording, episode in zip(folder.recordings, episodes, strict=True):
        simulator.start(episode.seed)
        for step in range(len(recording)):
            seen = [pictures.read(step) for pictures in recording.pictures]
            np.testing.assert_array_equal(seen, simulator.images())
            simulator.step(episode.actions[step])


def test_an_iteration_that_was_interrupted_is_left_out(run, episodes):
    save_episodes(run / "episodes" / "later" / "001.parts" / "0_0.npz", episodes[:1])
    names = [path.relative_to(run / "episodes").as_posix() for path in export._files(run, None)]
    assert names == ["demonstrations.npz", "ript/001.npz"]


def test_every_hdf5_file_of_a_folder(tmp_path):
    for name in ("b.h5", "a.hdf5", "._a.hdf5", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in export._hdf5(tmp_path)] == ["a.hdf5", "b.h5"]


def test_columns_beside(episodes):
    made = rows(episodes[0], 0.25).beside
    length = len(episodes[0])
    assert made["picture_is_new"].tolist() == [step % 4 == 0 for step in range(length)]
    assert made["policy_step"].tolist() == [-1] * length
    assert made["init_hash"] == [episodes[0].init_hash] * length
    assert not made["action_is_pad"].any()


def test_advantages_leave_one_out(episodes):
    """Against the others from its state; an episode alone there is compared with its task."""
    won, lost = (replace(episodes[0], success=x) for x in (True, False))
    alone = replace(won, init_hash="else")
    assert advantages([won, lost, lost]) == [1.0, -0.5, -0.5]
    assert advantages([won, lost, alone]) == [1.0, -1.0, 0.5]
    assert advantages([won]) == [0.0]


def test_mistakes_are_named_and_leave_nothing(tmp_path, run, episodes):
    out = tmp_path / "out"
    for arguments, message in (
        ([tmp_path / "no", out], "expected the episodes of a run, found none"),
        ([run / "config.json", out], "expected the episodes of a run, found none"),
        ([run, out, "--episodes=ripped"], "expected episodes 'ripped', found none"),
        ([run, out], "control rate of robot 'scripted' is unknown; give --fps"),
        ([run, out, "--fps=20", "--pictures=png"], "has no pictures; add --full-pictures"),
    ):
        with pytest.raises(InputError, match=message):
            export.main([str(argument) for argument in arguments])
        assert not out.exists()
    hdf5 = tmp_path / "x.h5"
    for flag in ("--full-pictures", "--episodes=ript"):
        with pytest.raises(InputError, match=f"{flag.partition('=')[0]} is for a run folder"):
            export.main([str(hdf5), str(out), flag])
    changed = replace(episodes[0], init_hash="0")
    save_episodes(run / "episodes" / "demonstrations.npz", [changed])
    with pytest.raises(InputError, match="begins elsewhere: expected the simulator of the record"):
        export.main([str(run), str(out), "--full-pictures", "--fps=20"])
    turned = replace(episodes[0], state=episodes[0].state + 1)
    save_episodes(run / "episodes" / "demonstrations.npz", [turned])
    with pytest.raises(InputError, match="leaves its way within step 40"):
        export.main([str(run), str(out), "--full-pictures", "--fps=20"])
    assert not out.exists()


def test_the_commands_name(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["export", "--help"])
    with pytest.raises(SystemExit) as done:
        runpy.run_module("pi0_jax.data.export", run_name="__main__")
    assert done.value.code == 0
    assert "picture_is_new" in capsys.readouterr().out


def write_hdf5(path, steps=5, **changes):
    """A file as LIBERO's `create_dataset.py` writes it, with two demonstrations."""
    h5py = pytest.importorskip("h5py", reason=NO_H5PY)
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["problem_info"] = json.dumps({"language_instruction": ["pick ", "up"]})
        for number in (10, 2):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["init_state"] = np.full(4, number / 3)
            values = {
                "actions": rng.uniform(-1, 1, (steps, 7)),
                "states": number + np.arange(4 * steps, dtype=float).reshape(steps, 4),
                "obs/ee_states": rng.normal(size=(steps, 6)),
                "obs/gripper_states": rng.normal(size=(steps, 2)),
                "obs/agentview_rgb": rng.integers(256, size=(steps, 8, 8, 3), dtype=np.uint8),
                "obs/eye_in_hand_rgb": rng.integers(256, size=(steps, 8, 8, 3), dtype=np.uint8),
            } | changes  # fmt: skip
            for name, value in values.items():
                demo[name] = value
    return path


def test_liberos_own_demonstrations_with_their_initial_states(tmp_path):
    h5py = pytest.importorskip("h5py", reason=NO_H5PY)
    path = write_hdf5(tmp_path / "pick_up_demo.hdf5")
    found = list(read_libero_hdf5(path))
    assert [one.episode.seed for one in found] == [2, 10]  # by number, not by letters
    # Row t is seen after action t: the episode begins with what row 0 sees, and with action 1.
    np.testing.assert_array_equal(found[1].initial_state, [14, 15, 16, 17])
    with h5py.File(path) as file:
        raw = file["data/demo_2/obs/agentview_rgb"][()]
        fingers = file["data/demo_2/obs/gripper_states"][()].astype(np.float32)
        actions = file["data/demo_2/actions"][()].astype(np.float32)
    episode = found[0].episode
    assert (episode.task, episode.prompt) == ("pick_up", "pick up")
    np.testing.assert_array_equal(episode.images[:, 0], np.rot90(raw[:-1], 2, (1, 2)))
    np.testing.assert_array_equal(episode.state[:, 6:], fingers[:-1])
    np.testing.assert_array_equal(episode.actions, actions[1:])

    export.main([str(tmp_path), str(tmp_path / "out"), "--pictures=png"])
    folder = read_lerobot(tmp_path / "out", None)
    np.testing.assert_array_equal(folder.recordings[0].pictures[0].read(3), episode.images[3, 0])
    assert folder.robot.control_hz == 20
    with np.load(tmp_path / "out" / "meta" / "initial_states.npz") as states:
        np.testing.assert_array_equal(states["episode_1"], found[1].initial_state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"obs/ee_states": np.zeros((4, 6))}, "dimensions|demonstration|concatenat"),
        ({"actions": np.full((5, 7), np.nan)}, "demonstration 2: a value is not finite"),
        ({"obs/agentview_rgb": np.zeros((5, 8, 8, 3))}, "uint8 pictures"),
        ({"states": np.zeros((4, 9))}, r"states of the simulator.* 5\), got .* 4\)"),
    ],
)
def test_a_damaged_hdf5_file_is_one_error(tmp_path, changes, message):
    path = write_hdf5(tmp_path / "x_demo.hdf5", **changes)
    with pytest.raises(InputError, match=message):
        list(read_libero_hdf5(path))


def test_an_hdf5_file_reads_no_other_file(tmp_path):
    h5py = pytest.importorskip("h5py", reason=NO_H5PY)
    secret, path = write_hdf5(tmp_path / "a.h5"), tmp_path / "b.hdf5"
    with h5py.File(path, "w") as file:
        file["data"] = h5py.ExternalLink(secret.name, "data")
    with pytest.raises(InputError, match="'data' is a link or is missing"):
        list(read_libero_hdf5(path))
    (tmp_path / "c.hdf5").write_text("no HDF5")
    with pytest.raises(InputError, match="expected demonstrations of LIBERO"):
        list(read_libero_hdf5(tmp_path / "c.hdf5"))
