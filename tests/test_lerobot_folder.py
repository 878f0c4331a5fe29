"""LeRobot folders of every version give the windows that whole episodes in memory give."""

import dataclasses
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import av
import chex
import lerobot_folders
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_folders import FPS, LEROBOT, OPENPI, Data
from tiny import transforms

from pi0_jax.data.action_space import ActionSpace
from pi0_jax.data.demonstrations import Recorded
from pi0_jax.data.lerobot.folder import open_lerobot, read_lerobot
from pi0_jax.data.lerobot.pictures import VideoPictures
from pi0_jax.env.robosuite.panda_robot import PANDA
from pi0_jax.episode import Episode
from pi0_jax.errors import InputError
from pi0_jax.robot import numbered

CAMERAS = ("agentview", "robot0_eye_in_hand")
DATA = Data(["lift", "stack", "lift"], [5, 3, 4])
HORIZON = 3
VARIANTS = [
    pytest.param("v2.0", OPENPI, False, id="openpi's, 2.0, images"),
    pytest.param("v2.1", LEROBOT, False, id="2.1, images"),
    pytest.param("v2.1", LEROBOT, True, id="2.1, videos"),
    pytest.param("v3.0", LEROBOT, False, id="3.0, images"),
    pytest.param("v3.0", LEROBOT, True, id="3.0, videos"),
]


def written(tmp_path, version="v2.1", names=LEROBOT, video=False):
    return lerobot_folders.write(tmp_path / "data", version, DATA, names, video)


def as_episode(index: int) -> Episode:
    """The same episode as one that was made here, looked at before every step."""
    frames = [DATA.frames(index, camera) for camera in ("scene", "wrist")]
    steps = DATA.lengths[index]
    return Episode(
        task="x", prompt=DATA.prompts[index], robot=PANDA, init_hash="", seed=0,
        images=np.stack(frames, 1), image_steps=np.arange(steps, dtype=np.int32),
        state=DATA.state[index], actions=DATA.actions[index],
        chunk_start=np.ones(steps, bool), success=True, optimizer_step=-1,
    )  # fmt: skip


def assert_same(found, expected, atol: float):
    for name in ("action_mask", "weight", "actions"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for name in ("state", "prompt", "prompt_mask", "image_mask"):
        np.testing.assert_array_equal(getattr(found.obs, name), getattr(expected.obs, name))
    one, other = (np.asarray(batch.obs.images, int) for batch in (found, expected))
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= atol


@pytest.mark.parametrize(("version", "names", "video"), VARIANTS)
@pytest.mark.parametrize("short", [False, True])
def test_windows_are_those_of_episodes_in_memory(tmp_path, version, names, video, short):
    """In any order, over the borders of episodes, to the last step; video may be off by a grey."""
    folder = open_lerobot(written(tmp_path, version, names, video), CAMERAS, ["lift", "stack"])
    windows = folder.windows(transforms(), HORIZON, 0.5, short)
    whole = Recorded([as_episode(i) for i in range(3)]).windows(transforms(), HORIZON, 0.5, short)
    assert len(windows) == len(whole) == (6 if short else 12)
    order = np.random.default_rng(1).permutation(len(whole))
    assert_same(windows.take(order), whole.take(order), atol=2 if video else 0)
    one, other = (
        folder.stats(ActionSpace((True,) * 3), HORIZON, 0.1),
        Recorded([*map(as_episode, range(3))]).stats(ActionSpace((True,) * 3), HORIZON, 0.1),
    )
    np.testing.assert_array_equal(one.state.mean, other.state.mean)
    np.testing.assert_array_equal(one.actions.std, other.actions.std)


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
@pytest.mark.parametrize("video", [False, True])
def test_only_the_tasks_at_hand_are_learned(tmp_path, version, video):
    folder = open_lerobot(written(tmp_path, version, video=video), CAMERAS, ["stack"])
    assert [recording.prompts for recording in folder.recordings] == [("stack",) * 3]
    greys = folder.windows(transforms(), HORIZON).take(np.arange(3)).obs.images[:, :, 0, 0, 0]
    expected = [[DATA.grey(1, step, c) for c in ("scene", "wrist")] for step in range(3)]
    np.testing.assert_allclose(greys, expected, atol=2)


def test_the_policy_s_cameras_come_in_its_order(tmp_path):
    folder = open_lerobot(written(tmp_path), ("left_wrist_0_rgb", "base_0_rgb"), ["lift"])
    assert folder.recordings[0].observation(0, 16).images[:, 0, 0, 0].tolist() == [100, 0]


def spoil_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def drop_column(path, name):
    file = next((path / "data").glob("*/*.parquet"))
    pq.write_table(pq.read_table(file).drop_columns([name]), file)


def replace_column(path, name, values):
    file = next((path / "data").glob("*/episode_000001.parquet"))
    table = pq.read_table(file)
    at = table.column_names.index(name)
    pq.write_table(table.set_column(at, name, values), file)


NAN = pa.array([[np.nan] * 8] * 3)
RAGGED = pa.array([[0.0] * 8, [0.0] * 7, [0.0] * 8])
SPOILED = {
    "no folder": (shutil.rmtree, "expected a LeRobot folder with meta/"),
    "no list of tasks": (
        lambda p: (p / "meta/tasks.jsonl").unlink(),
        "expected a LeRobot folder with meta/: .*No such file .*tasks.jsonl",
    ),
    "a version of tomorrow": (
        lambda p: spoil_json(p / "meta/info.json", codebase_version="v4.0"),
        "expected LeRobot v2.0, v2.1, v3.0, got 'v4.0'",
    ),
    "episodes are missing": (
        lambda p: spoil_json(p / "meta/info.json", total_episodes=4),
        "counts 4 episodes, 3 are listed; the folder is incomplete",
    ),
    "a data file is missing": (
        lambda p: (p / "data/chunk-000/episode_000002.parquet").unlink(),
        "episode_000002.parquet: expected a parquet file",
    ),
    "a data file is cut": (
        lambda p: (p / "data/chunk-000/episode_000001.parquet").write_bytes(b"PAR1"),
        "episode_000001.parquet: expected a parquet file",
    ),
    "steps are missing": (
        lambda p: (p / "meta/episodes.jsonl").write_text(
            (p / "meta/episodes.jsonl").read_text().replace('"length": 3', '"length": 9')
        ),
        "episode 1: the folder's meta/ says 9 steps in a row in episode_000001.parquet, this",
    ),
    "a column is missing": (lambda p: drop_column(p, "action"), r"no column \['action'\]; it has"),
    "not a number": (
        lambda p: replace_column(p, "observation.state", NAN),
        "'observation.state': a value is missing or not finite",
    ),
    "lists of different lengths": (
        lambda p: replace_column(p, "observation.state", RAGGED),
        "'observation.state': expected numbers, or lists of one length",
    ),
    "a task of brackets": (
        lambda p: (p / "meta/tasks.jsonl").write_text("[" * 100000),
        "expected a LeRobot folder with meta/: .*nested too deeply",
    ),
    "a list of episodes of ten terabytes": (
        lambda p: os.truncate(p / "meta/episodes.jsonl", 10 * 2**40),
        "episodes.jsonl: expected at most",
    ),
    "a task without a text": (
        lambda p: (p / "meta/tasks.jsonl").write_text('{"task_index": 0, "task": "lift"}\n'),
        "meta/ has no task 1",
    ),
    "pictures are missing": (
        lambda p: drop_column(p, "observation.images.image2"),
        r"no column \['observation.images.image2'\]; it has",
    ),
    "texts for numbers": (
        lambda p: replace_column(p, "observation.state", pa.array([{"x": 1}] * 3)),
        "expected numbers, or lists of one length",
    ),
    "no time passes": (
        lambda p: spoil_json(p / "meta/info.json", fps=0),
        "expected a positive fps in meta/info.json, got 0.0",
    ),
    "files without episodes": (
        lambda p: spoil_json(p / "meta/info.json", chunks_size=0),
        "expected a LeRobot folder with meta/: ZeroDivisionError",
    ),
    "no state": (
        lambda p: spoil_json(p / "meta/info.json", features={
            "observation.images.image": {"dtype": "image"}, "wrist_image": {"dtype": "image"}}),
        r"expected one of \['observation.state', 'state'\]",
    ),
    "no wrist camera": (
        lambda p: spoil_json(p / "meta/info.json", features={"image": {"dtype": "image"}}),
        "expected one camera 'robot0_eye_in_hand', got none",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILED)
def test_what_is_wrong_with_a_folder_is_said(tmp_path, name):
    spoil, message = SPOILED[name]
    path = written(tmp_path)
    spoil(path)
    with pytest.raises(InputError, match=message):
        open_lerobot(path, CAMERAS, ["lift"])


def test_tasks_that_nobody_demonstrated(tmp_path):
    with pytest.raises(InputError, match=r"none of its 3 episodes .*\['fly'\].*'lift', 'stack'"):
        open_lerobot(written(tmp_path), CAMERAS, ["fly"])


def test_another_robot_is_refused(tmp_path):
    folder = open_lerobot(written(tmp_path), CAMERAS, ["lift"])
    folder.check_robot(PANDA)
    with pytest.raises(InputError, match=r"states of 8 and actions of 14 .*\(8,\) and \(7,\)"):
        folder.check_robot(dataclasses.replace(PANDA, actions=numbered("action", 14)))


def test_rows_in_another_file_than_meta_says(tmp_path):
    """As lerobot's own converter lists some: the pictures come from where the rows are."""
    path = written(tmp_path, "v3.0")
    file = path / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    at = table.column_names.index("data/file_index")
    # The second is in file-000 and listed in one that does not exist; the third lies in chunk-001.
    pq.write_table(table.set_column(at, "data/file_index", pa.array([0, 4, 4])), file)
    folder = open_lerobot(path, CAMERAS, ["lift", "stack"])
    assert [recording.number for recording in folder.recordings] == [0, 1, 2]
    assert [finding.kind for finding in folder.findings] == ["place"]
    assert "episode 1 lies in " in folder.findings[0].text
    assert folder.recordings[1].observation(2, 16).images[0, 0, 0, 0] == DATA.grey(1, 2, "scene")


def test_an_episode_that_is_there_twice(tmp_path):
    path = written(tmp_path, "v3.0")
    whole = pq.read_table(path / "data/chunk-000/file-000.parquet")
    other = path / "data/chunk-001/file-004.parquet"
    pq.write_table(pa.concat_tables([pq.read_table(other), whole.slice(5, 3)]), other)
    with pytest.raises(InputError, match=r"episode 1 is there twice: in file-000.parquet, file-"):
        open_lerobot(path, CAMERAS, ["lift", "stack"])


def test_scalars_in_lists_of_one(tmp_path):
    path = written(tmp_path)
    for name in ("timestamp", "episode_index", "task_index"):
        file = next((path / "data").glob("*/episode_000001.parquet"))
        values = pq.read_table(file).column(name).to_pylist()
        replace_column(path, name, pa.array([[value] for value in values]))
    assert open_lerobot(path, CAMERAS, ["stack"]).recordings[0].prompts == ("stack",) * 3
    replace_column(path, "task_index", pa.array([[1, 1]] * 3))
    with pytest.raises(InputError, match="'task_index': expected one number per row, got"):
        open_lerobot(path, CAMERAS, ["stack"])


def test_all_that_is_damaged_is_listed(tmp_path):
    """The first stands in the message, and the folder has every one of them."""
    path = written(tmp_path)
    files = sorted((path / "data").rglob("*.parquet"))
    files[0].write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4217\n")
    files[2].unlink()
    folder = read_lerobot(path, CAMERAS)
    assert [recording.number for recording in folder.recordings] == [1]
    assert [finding.kind for finding in folder.findings] == ["rows", "rows"]
    with pytest.raises(
        InputError, match=r"episode_000000.parquet: a git-lfs pointer.*; and 1 more"
    ):
        open_lerobot(path, CAMERAS, ["stack"])


def test_what_rollouts_have_besides(tmp_path):
    path = written(tmp_path)
    info = json.loads((path / "meta/info.json").read_text())
    info["features"] |= {"next.success": {"dtype": "bool"}, "advantages": {"dtype": "float32"}}
    (path / "meta/info.json").write_text(json.dumps(info))
    for i, file in enumerate(sorted((path / "data").rglob("*.parquet"))):
        table = pq.read_table(file)
        last = [False] * (len(table) - 1) + [i != 1]
        table = table.append_column("next.success", pa.array([[x] for x in last]))
        pq.write_table(table.append_column("advantages", pa.array([i / 2] * len(table))), file)
    recordings = open_lerobot(path, CAMERAS, ["lift", "stack"]).recordings
    assert [(r.success, r.advantage) for r in recordings] == [(1, 0), (0, 0.5), (1, 1)]
    assert [r.seconds[-1] for r in recordings] == pytest.approx([0.4, 0.2, 0.3])


def test_other_data_are_known_by_their_digest(tmp_path):
    folder = open_lerobot(written(tmp_path), CAMERAS, ["lift", "stack"])
    again = open_lerobot(written(tmp_path / "again", "v3.0"), CAMERAS, ["lift", "stack"])
    assert folder.digest == again.digest
    assert folder.digest != open_lerobot(tmp_path / "data", CAMERAS, ["lift"]).digest
    assert folder.labels_digest == again.labels_digest
    first, *rest = folder.recordings
    for label in ({"advantage": 0.5}, {"success": 0.0}, {"prompts": ("x",) * len(first)}):
        other = replace(folder, recordings=(replace(first, **label), *rest))
        assert (other.digest, other.labels_digest != folder.labels_digest) == (folder.digest, True)


@pytest.mark.parametrize(
    "options", [{"open-gop": "1", "g": "4", "bf": "3"}, {"g": "5", "bf": "2"}, {"g": "1"}],
    ids=["open groups", "closed groups", "key frames only"],
)  # fmt: skip
def test_every_frame_of_any_encoding_is_found(tmp_path, options):
    """Open groups: a seek lands on a key frame that is shown after the frame looked for."""
    greys = np.arange(30) * 8
    x264 = {"x264-params": ":".join(f"{k}={v}" for k, v in options.items())}
    with av.open(str(tmp_path / "v.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=FPS, options=x264)
        stream.width = stream.height = 32
        for grey in greys:
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), grey, np.uint8))
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    pictures = VideoPictures(tmp_path / "v.mp4", np.arange(30) / FPS, FPS)
    found = [pictures.read(step)[0, 0, 0] for step in range(30)]
    np.testing.assert_allclose(np.array(found, int), greys, atol=3)


def test_a_missing_video_is_found_at_once(tmp_path):
    path = written(tmp_path, "v3.0", video=True)
    next((path / "videos").rglob("*.mp4")).unlink()
    with pytest.raises(InputError, match="no such file; the folder is incomplete"):
        open_lerobot(path, CAMERAS, ["lift"])


def test_a_video_that_ends_too_early(tmp_path):
    path = written(tmp_path, "v2.1", video=True)
    video = path / f"videos/chunk-000/{LEROBOT['scene']}/episode_000000.mp4"
    seconds = np.arange(7) / FPS  # it has five frames
    pictures = VideoPictures(video, seconds, FPS)
    assert abs(int(pictures.read(4)[0, 0, 0]) - DATA.grey(0, 4, "scene")) <= 2
    with pytest.raises(InputError, match=r"no frame at 0.600 s"):
        pictures.read(6)
    with pytest.raises(InputError, match=r"no frame at 0.140 s"):
        VideoPictures(video, np.array([0.14]), fps=100.0).read(0)


def test_an_image_that_is_not_there(tmp_path):
    path = written(tmp_path)
    empty = pa.array([{"bytes": None, "path": "elsewhere.png"}] * 3)
    replace_column(path, LEROBOT["scene"], empty)
    folder = open_lerobot(path, CAMERAS, ["stack"])
    with pytest.raises(InputError, match=r"no image in column 'observation.images.image' at step"):
        folder.windows(transforms(), HORIZON).take(np.array([1]))


def test_episodes_shorter_than_a_window_that_must_be_whole(tmp_path):
    folder = open_lerobot(written(tmp_path), CAMERAS, ["lift"])
    with pytest.raises(InputError, match="no episode has a whole window of 9 steps"):
        folder.windows(transforms(), 9, skip_short=True)


def test_a_folder_that_lerobot_itself_wrote():
    """LeRobot 0.6.1, AV1 videos: episode e step t has state e + t / 10 and grey 40 e + 5 t."""
    path = Path(__file__).parent / "lerobot_0_6_1"
    folder = open_lerobot(path, CAMERAS, ["lift", "stack"])
    assert str(folder).endswith("3 of 3 episodes, 12 steps")
    assert [recording.prompts[0] for recording in folder.recordings] == ["lift", "stack", "lift"]
    for episode, recording in enumerate(folder.recordings):
        for step in range(DATA.lengths[episode]):
            seen = recording.observation(step, 64)
            np.testing.assert_allclose(seen.state, episode + step / 10, rtol=1e-6)
            np.testing.assert_allclose(recording.actions[step], -episode - step / 10, rtol=1e-6)
            greys = seen.images.mean((1, 2, 3)) - [0, 100]
            np.testing.assert_allclose(greys, 40 * episode + 5 * step, atol=2.5)


@pytest.mark.parametrize("video", [False, True], ids=["images", "videos"])
def test_kept_frames_are_those_that_are_decoded(tmp_path, video):
    data = Data(["a", "b"], [5, 4], size=48)
    path = lerobot_folders.write(tmp_path / "data", "v3.0", data, lerobot_folders.LEROBOT, video)
    folder = read_lerobot(path, None)
    plain = folder.windows(transforms(), 3)
    cached = folder.cached(tmp_path / "cache", 10**9).windows(transforms(), 3)
    order = np.array([8, 0, 4, 5, 0])
    for _ in range(2):
        chex.assert_trees_all_equal(cached.take(order), plain.take(order))
    # A folder with fewer episodes has frames of its own: numbers mean others there.
    fewer = folder.only(["b"]).cached(tmp_path / "cache", 10**9)
    one = fewer.windows(transforms(), 3).take(np.array([0]))
    np.testing.assert_array_equal(one.obs.images[0], plain.take(np.array([5])).obs.images[0])
    assert len(list((tmp_path / "cache").glob("*.frames"))) == 2


def test_hosts_read_their_rows_of_the_batch_of_a_single_process(tmp_path):
    data = Data(["a"], [6], size=48)
    path = lerobot_folders.write(tmp_path / "data", "v3.0", data, lerobot_folders.LEROBOT)
    windows = read_lerobot(path, None).windows(transforms(), 3)
    indices = np.array([5, 2, 0, 3])
    whole = windows.take(indices)
    first = np.array([True, True, False, False])
    parts = [windows.take(indices, seen) for seen in (first, ~first)]
    for part, rows in zip(parts, (slice(0, 2), slice(2, 4)), strict=True):
        # All but the pictures is there on every host: prompts are cut to one length.
        chex.assert_trees_all_equal(
            part.replace(obs=part.obs.replace(images=whole.obs.images)), whole
        )
        np.testing.assert_array_equal(part.obs.images[rows], whole.obs.images[rows])
    assert not parts[0].obs.images[2:].any()
