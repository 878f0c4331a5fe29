"""Videos show stored episodes: the right ones, whole, and named in an index."""

import json

import numpy as np
import pytest
from tiny import episode
from videos import read_video

from pi0_jax.env.base import Job
from pi0_jax.env.demonstrator import DemonstratorConfig, demonstrate
from pi0_jax.env.scripted import ScriptedTask
from pi0_jax.env.suite import Suite
from pi0_jax.io.episodes import save_episodes
from pi0_jax.rollout import record_videos as film_module
from pi0_jax.rollout.collect import replay
from pi0_jax.rollout.guidance import PLAIN, Guidance
from pi0_jax.rollout.record_videos import MOST_STATES, Acting, _choose, record_videos
from pi0_jax.run.folder import RunFolder
from pi0_jax.run.session import Session

TASK = ScriptedTask(max_steps=9, image_size=32, tolerance=0.3)
HOLD = 20  # frames of a second at the rate of a robot that has none
SUITE = Suite("scripted", (TASK,), DemonstratorConfig())
SEEDS = range(12)
BEFORE_AND_AFTER = [Acting("base", PLAIN), Acting("ript", PLAIN)]
GUIDED = Acting("ript", Guidance(3.0, "base"))


@pytest.fixture(scope="module")
def evaluated(scripted_pool):
    """Outcomes before and after: the same states by a clumsy and by a good expert."""
    styles = DemonstratorConfig(offset_sigma=0.8), DemonstratorConfig(offset_sigma=0.0)
    return [
        scripted_pool.map([Job(TASK, demonstrate, (seed, style)) for seed in SEEDS])
        for style in styles
    ]


def filmed(path, pool, evaluated, each: int):
    """Runs `record_videos` and gives its index of videos and of stills."""
    run = RunFolder(path, {}, resume=False)
    for method, episodes in zip(("base", "ript"), evaluated, strict=True):
        save_episodes(run.episodes(f"eval/{method}_1"), episodes)
    record_videos(Session(run, SUITE, pool, 0, 8), BEFORE_AND_AFTER, each)
    return [json.loads((path / f / "index.json").read_text()) for f in ("videos", "frames")]


@pytest.fixture(scope="module")
def once(tmp_path_factory, scripted_pool, evaluated):
    """Path, videos and stills of one state of each kind."""
    path = tmp_path_factory.mktemp("film")
    return path, *filmed(path, scripted_pool, evaluated, each=1)


def test_both_arms_show_the_same_states(once, evaluated):
    path, videos, stills = once
    outcomes = {method: {} for method in ("base", "ript")}
    for entry in videos:
        method, _, seed, outcome = entry["file"].removesuffix(".mp4").split("_")
        assert (entry["method"], entry["outcome"]) == (method, outcome)
        outcomes[method][int(seed)] = outcome
        index = 0 if method == "base" else 1
        saved = evaluated[index][int(seed)]
        assert outcome == ("success" if saved.success else "failure")
        assert entry["caption"] == f"{len(saved)} control steps"
        frames = read_video(path / "videos" / entry["file"])
        assert len(frames) == len(saved) + HOLD
        end = frames[-1].astype(int)
        assert np.abs(end - frames[len(saved)]).mean() < 2  # the end stays
        written = [(frame[-22:, 110:].min(axis=-1) > 100).any() for frame in frames]
        # It says how the episode ended, and nothing of it before.
        assert written == [False] * len(saved) + [True] * HOLD
    assert outcomes["base"].keys() == outcomes["ript"].keys()
    pairs = {(outcomes["base"][seed], outcomes["ript"][seed]) for seed in outcomes["base"]}
    assert ("failure", "success") in pairs  # what RL taught comes first
    assert any(after == "failure" for _, after in pairs)
    assert len(stills) == len(videos) == 2 * len(outcomes["base"])
    assert all((path / "frames" / entry["file"]).stat().st_size for entry in stills)


def test_the_picture_is_the_episodes(once, evaluated):
    """Its hand's last position is where the blue spot is in the last frame."""
    path, videos, _ = once
    entry = next(e for e in videos if e["method"] == "ript" and e["outcome"] == "failure")
    seed = int(entry["file"].split("_")[2])
    saved = evaluated[1][seed]
    hand = saved.state[-1, :2] + 0.1 * saved.actions[-1, :2]
    frame = read_video(path / "videos" / entry["file"])[-1][:192, :192].astype(float)
    red = frame[..., 0]
    y, x = np.unravel_index(red.argmin(), red.shape)  # blue has least red
    np.testing.assert_allclose(np.clip(hand, -1, 1), [x / 95.5 - 1, y / 95.5 - 1], atol=0.12)


def test_a_simulator_that_fails_costs_its_videos_alone(
    tmp_path, scripted_pool, evaluated, monkeypatch, capsys
):
    """The first block is lost, the others are filmed, and the index names what is there."""
    calls = []

    def failing_once(pool, plays, frame_every):
        calls.append(len(plays))
        if len(calls) == 1:
            raise RuntimeError("worker 7 died")
        return replay(pool, plays, frame_every)

    monkeypatch.setattr(film_module, "replay", failing_once)
    videos, stills = filmed(tmp_path, scripted_pool, evaluated, each=2)
    assert len(videos) == len(stills) == sum(calls[1:]) > 0
    assert all((tmp_path / "videos" / entry["file"]).exists() for entry in videos)
    said = capsys.readouterr().err
    assert f"warning: {calls[0]} videos could not be filmed: worker 7 died" in said


def test_no_videos_wanted(tmp_path, scripted_pool, evaluated):
    assert filmed(tmp_path, scripted_pool, evaluated, each=0) == [[], []]


def outcomes(task: str, successes: str) -> list:
    """Episodes of a task, "+" for a success, "-" for a failure, "x" for an error."""
    kinds = {"+": {"success": True}, "-": {}, "x": {"error": "broken"}}
    return [episode(2, [0], task=task, seed=i, **kinds[k]) for i, k in enumerate(successes)]


def test_kinds_and_tasks_take_turns():
    before = [*outcomes("a", "x-+-+"), *outcomes("b", "---")]
    after = [*outcomes("a", "-++-x"), *outcomes("b", "---")]
    # Task a: newly solved 1, easy 2, failed 3. Task b: failed 5, 6, 7.
    assert _choose((before, after), each=1) == [1, 5, 2, 3]
    assert _choose((before, after), each=2) == [1, 5, 2, 6, 3]
    assert _choose((before, after), each=0) == []


def test_what_guidance_newly_solves_is_shown_too():
    base, ript, guided = outcomes("a", "-+--x"), outcomes("a", "-++-+"), outcomes("a", "++---")
    # Solved by RL alone 2, by guidance alone 0, before 1, failed in the end 2 and 3.
    assert _choose((base, ript, guided), each=1) == [2, 0, 1]
    assert _choose((base, ript, guided), each=2) == [2, 0, 1, 3]
    assert _choose((base,), each=1) == [1, 0]


def test_many_tasks_are_bounded_and_each_is_seen():
    episodes = [one for task in range(15) for one in outcomes(str(task), "+-+-")]
    chosen = _choose((episodes, episodes), each=2)
    assert len(chosen) == MOST_STATES
    assert {episodes[index].task for index in chosen} == set(map(str, range(15)))
    assert {episodes[index].success for index in chosen} == {True, False}


def test_a_state_is_filmed_under_base_rl_and_rl_with_guidance(tmp_path, scripted_pool, evaluated):
    run = RunFolder(tmp_path, {}, resume=False)
    for name, index in (("base_1", 0), ("ript_1", 1), ("ript_3_base", 0)):
        save_episodes(run.episodes(f"eval/{name}"), evaluated[index])
    record_videos(Session(run, SUITE, scripted_pool, 0, 8), [*BEFORE_AND_AFTER, GUIDED], 1)
    videos, stills = (
        json.loads((tmp_path / f / "index.json").read_text()) for f in ("videos", "frames")
    )
    assert len(videos) == len(stills) and not len(videos) % 3
    for first in range(0, len(videos), 3):
        three = videos[first : first + 3]
        assert [one["method"] for one in three] == ["base", "ript", "ript"]
        assert [one["guidance"] for one in three] == ["", "", "guidance 3 from base"]
        assert len({one["state"] for one in three}) == len({one["title"] for one in three}) == 1
        seed = int(three[0]["state"].split()[-1])
        # The guided evaluation is that of the base here: the same episode, in a film of its own.
        assert three[2]["outcome"] == three[0]["outcome"]
        outcome = "success" if evaluated[0][seed].success else "failure"
        assert three[2]["file"] == f"ript-w3_base_{TASK.name}_{seed}_{outcome}.mp4"
    assert [one | {"file": ""} for one in stills] == [one | {"file": ""} for one in videos]


def test_what_is_filmed_is_not_filmed_again(once, scripted_pool, monkeypatch):
    path, videos, _ = once
    lost = path / "videos" / videos[0]["file"]
    lost.unlink()
    replayed, replay = [], film_module.replay

    def counted(pool, plays, frame_every):
        replayed.extend(plays)
        return replay(pool, plays, frame_every)

    monkeypatch.setattr(film_module, "replay", counted)
    run = RunFolder(path, {}, resume=True)
    record_videos(Session(run, SUITE, scripted_pool, 0, 8), BEFORE_AND_AFTER, 1)
    assert [str(one.seed) for _, one in replayed] == [lost.name.split("_")[2]]
    assert lost.exists()
    assert json.loads((path / "videos" / "index.json").read_text()) == videos
