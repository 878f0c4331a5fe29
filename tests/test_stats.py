"""`python -m pi0_jax.data.stats`: the file that it writes, and what it refuses."""

import json
from pathlib import Path

import lerobot_folders
import numpy as np
import pytest

from pi0_jax.data.lerobot.folder import read_lerobot
from pi0_jax.data.normalize import load_norm_stats
from pi0_jax.data.stats import action_space, main
from pi0_jax.errors import InputError
from pi0_jax.robots import Defaults

DATA = lerobot_folders.Data(["lift", "stack", "lift"], [5, 3, 9])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lerobot_folders.write(
        tmp_path_factory.mktemp("stats") / "data", "v2.1", DATA, lerobot_folders.LEROBOT
    )


def expected(mask: np.ndarray, horizon: int) -> np.ndarray:
    """Every step of every chunk, relative where the mask says so: float64[n, e]."""
    return np.concatenate(
        [
            actions[start : start + horizon].astype(float) - state[start, :7].astype(float) * mask
            for state, actions in zip(DATA.state, DATA.actions, strict=True)
            for start in range(len(actions))
        ]
    )


@pytest.mark.parametrize(
    ("flags", "mask"), [([], np.zeros(7)), (["--delta-mask", "6,-1"], np.array([1] * 6 + [0]))]
)
def test_the_file_has_the_statistics_of_all_chunks(folder, tmp_path, capsys, flags, mask):
    out = tmp_path / "norm_stats.json"
    main([str(folder), "--robot", "libero_panda", "--out", str(out), "--horizon", "4", *flags])
    found = load_norm_stats(out)
    chunks = expected(mask, 4)
    np.testing.assert_allclose(found.actions.mean, chunks.mean(0), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.actions.std, chunks.std(0), rtol=1e-12)
    np.testing.assert_array_equal(found.actions.q99, np.quantile(chunks, 0.99, axis=0))
    states = np.concatenate(DATA.state).astype(float)
    np.testing.assert_allclose(found.state.std, states.std(0), rtol=1e-12)
    assert found.origin and (found.origin.episodes, found.origin.frames) == (3, 17)
    assert found.origin.data == read_lerobot(folder, ()).digest
    said = capsys.readouterr().out
    assert "hardly moves" not in said
    assert "state left_finger [m]" in said and "3 episodes, 17 steps" in said
    with pytest.raises(InputError, match="exists; remove it or add --overwrite"):
        main([str(folder), "--robot", "libero_panda", "--out", str(out)])


def test_an_action_at_the_floor_hardly_moves(folder, tmp_path, capsys):
    out = str(tmp_path / "x.json")
    main([str(folder), "--robot", "libero_panda", "--out", out, "--std-floor", "9"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("action")]
    assert len(lines) == 7 and all(line.endswith("hardly moves") for line in lines)


def test_several_folders_and_the_robot_that_the_folder_describes(folder, tmp_path):
    out = tmp_path / "s.json"
    main([str(folder), str(folder), "--robot", "lerobot", "--out", str(out)])
    found = load_norm_stats(out)
    assert found.origin and found.origin.frames == 34
    np.testing.assert_allclose(found.actions.mean, expected(np.zeros(7), 50).mean(0), rtol=1e-12)


def test_a_changed_number_is_refused(folder, tmp_path):
    out = tmp_path / "s.json"
    main([str(folder), "--robot", "lerobot", "--out", str(out)])
    values = json.loads(out.read_text())
    values["norm_stats"]["actions"]["std"][0] *= 2
    out.write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"not those that were computed .the digest differs"):
        load_norm_stats(out)
    del values["pi0_jax"]
    out.write_text(json.dumps(values))
    assert load_norm_stats(out).origin is None


def test_other_data_or_settings_than_those_of_a_training(folder, tmp_path):
    for name, horizon in (("a", "4"), ("b", "5")):
        out = str(tmp_path / name)
        main([str(folder), "--robot", "lerobot", "--out", out, "--horizon", horizon])
    one, other = (load_norm_stats(tmp_path / name).origin for name in "ab")
    assert one and other
    one.check(one, tmp_path / "a")
    with pytest.raises(InputError, match="statistics with horizon 4 and this training has 5; comp"):
        one.check(other, tmp_path / "a")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--robot", "aloha"], r"as aloha has, got \(8,\) and \(7,\)"),
        (["--robot", "libero_panda", "--delta-mask", "9"], "delta mask '9': expected at most 7"),
        (["--robot", "libero_panda", "--delta-mask", "x"], "delta_mask: invalid literal"),
        (["--robot", "libero_panda", "--horizon", "0"], "--horizon must be at least 1"),
        (["--robot", "ur5"], "robot 'ur5': expected aloha"),
    ],
)
def test_bad_input_is_one_error(folder, tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        main([str(folder), "--out", str(tmp_path / "s.json"), *flags])
    assert not list(tmp_path.iterdir())


def test_what_a_robot_s_file_says_of_its_actions():
    assert action_space(Defaults()).delta_mask == ()
    assert action_space(Defaults("2,-1")).delta_mask == (True, True, False)
