"""Files that mean harm: each costs one line and no time, and nothing outside their folder."""

import io
import json
import os
import time
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from lerobot_folders import OPENPI, Data, write
from PIL import Image
from pyarrow import parquet

from pi0_jax import testing
from pi0_jax.convert.files import remote
from pi0_jax.data.lerobot import check_pictures, pictures
from pi0_jax.data.lerobot.files import open_layout
from pi0_jax.data.lerobot.pictures import VideoPictures
from pi0_jax.data.lerobot.tables import read_table
from pi0_jax.errors import InputError
from pi0_jax.io.orbax_tree import save_tree
from pi0_jax.policy.folder import load_policy, save_policy


@pytest.fixture(autouse=True)
def quick():
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 10  # seconds on a busy machine; a second on a quiet one


@pytest.fixture(scope="module")
def policy():
    return testing.tiny_policy()


def encoded(side: int, kind: str) -> bytes:
    """A picture of one colour: 4 bytes per row in a PNG, whatever its size."""
    file = io.BytesIO()
    Image.new("L", (side, side)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("picture", "match"),
    [
        # PIL would start Ghostscript for it.
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot identify image"),
        (encoded(8, "GIF"), "cannot identify image"),
        (encoded(6000, "PNG"), "6000 x 6000 pixels"),
        (encoded(14000, "PNG"), "exceeds limit|pixels"),
        (b"", "cannot identify image"),
    ],
)
def test_pictures(picture, match):
    with pytest.raises(pictures._UNREADABLE, match=match):
        pictures._decoded(picture)


def test_pictures_of_cameras():
    assert pictures._decoded(encoded(8, "PNG")).shape == (8, 8, 3)
    assert pictures._decoded(encoded(8, "JPEG")).shape == (8, 8, 3)


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '/etc/passwd'\n",
        "v=0\nm=video 9 RTP/AVP 96\n",
        "\n".join(f"P5 {i}" for i in range(3)),
    ],
)
def test_a_video_names_no_other_file(tmp_path, text):
    (tmp_path / "x.mp4").write_text(text)
    with pytest.raises(InputError, match=r"x\.mp4: (cannot be read|expected a video)") as error:
        VideoPictures(tmp_path / "x.mp4", np.zeros(1), 10.0).read(0)
    assert "\n" not in str(error.value)
    # The check before a training opens videos first.
    found = check_pictures._frames(tmp_path / "x.mp4")
    assert isinstance(found, str) and "expected a video" in found


def test_a_video_that_is_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "x.mp4")
    assert "got a pipe" in str(check_pictures._frames(tmp_path / "x.mp4"))
    with pytest.raises(InputError, match="got a pipe"):
        VideoPictures(tmp_path / "x.mp4", np.zeros(1), 10.0).read(0)


@pytest.mark.parametrize(
    ("template", "match"),
    [
        ("../../x_{episode_index:06d}.parquet", "which is outside"),
        ("/etc/{episode_index:06d}.parquet", "which is outside"),
        ("{episode_index!r:>3000000000}", "expected fields such as"),
        ("{episode_index:>3000000000}", "expected fields such as"),
        ("{episode_index.__class__}", "expected fields such as"),
        ("data/{wrong}.parquet", "expected fields such as"),
        (5, "data_path: expected a path with fields, got 5"),
        ("data/{episode_index:06d", "expected a LeRobot folder"),
    ],
)
def test_templates(tmp_path, template, match):
    path = write(tmp_path / "set", "v2.1", Data(["lift"], [3]), OPENPI)
    info = json.loads((path / "meta/info.json").read_text())
    (path / "meta/info.json").write_text(json.dumps(info | {"data_path": template}))
    with pytest.raises(InputError, match=match):
        open_layout(path)


def test_pipes(tmp_path, policy):
    path = write(tmp_path / "set", "v2.1", Data(["lift"], [3]), OPENPI)
    table = next((path / "data").rglob("*.parquet"))
    for file in (table, path / "meta/episodes.jsonl", path / "meta/info.json"):
        file.unlink()
        os.mkfifo(file)
    with pytest.raises(InputError, match="got a pipe"):
        read_table(table)
    with pytest.raises(InputError, match="got a pipe"):
        open_layout(path)
    save_policy(tmp_path / "policy", policy, {})
    (tmp_path / "policy/config.json").unlink()
    os.mkfifo(tmp_path / "policy/config.json")
    with pytest.raises(InputError, match="got a pipe"):
        load_policy(tmp_path / "policy")


def test_a_table_of_rows_without_end(tmp_path):
    # Equal values need hardly any room: 40 kB.
    rows = pa.table({"action": pa.array(np.zeros(6_000_000, np.float32))})
    parquet.write_table(rows, tmp_path / "x.parquet")
    with pytest.raises(InputError, match="at most 5,000,000 rows, got 6,000,000"):
        read_table(tmp_path / "x.parquet")


def test_weights_that_declare_more_than_there_is(tmp_path, policy):
    """Other shapes are refused before a value is read."""
    save_policy(tmp_path / "policy", policy, {})
    for file in ("digests.json",):
        (tmp_path / "policy" / file).unlink()
    params = tmp_path / "policy/params"
    params.rename(tmp_path / "old")
    save_tree(params, {"params": {**policy.params, "cond_embed": np.zeros((2, 10**7))}})
    with pytest.raises(InputError, match=r"cond_embed.*10000000"):
        load_policy(tmp_path / "policy")


def test_sizes_of_a_network_without_end(tmp_path, policy):
    save_policy(tmp_path / "policy", policy, {})
    file = tmp_path / "policy/config.json"
    config = json.loads(file.read_text())
    for name in ("action_horizon", "prompt_length"):
        changed = {**config, "model": config["model"] | {name: 10**9}}
        file.write_text(json.dumps(changed))
        with pytest.raises(InputError, match=f"{name} must be a whole number in"):
            load_policy(tmp_path / "policy")


@pytest.mark.parametrize("asset_id", ["../../evil", "/tmp/evil", "a/../../b", ""])
def test_statistics_stay_in_their_folder(tmp_path, policy, asset_id):
    save_policy(tmp_path / "policy", policy, {})
    file = tmp_path / "policy/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"asset_id": asset_id}))
    with pytest.raises(InputError, match="asset_id"):
        load_policy(tmp_path / "policy")


def test_a_link_in_place_of_a_tokenizer_is_not_copied(tmp_path, policy):
    secret = tmp_path / "secret"
    secret.write_text("a private key")
    save_policy(tmp_path / "policy", policy, {})
    (tmp_path / "policy/paligemma_tokenizer.model").symlink_to(secret)
    (tmp_path / "policy/digests.json").unlink()
    save_policy(tmp_path / "copy", load_policy(tmp_path / "policy"), {})
    assert "a private key" not in "".join(
        path.read_text(errors="ignore") for path in (tmp_path / "copy").rglob("*") if path.is_file()
    )


class Bucket:
    """What fsspec gives for a bucket with one object whose name climbs."""

    def __init__(self, root: Path):
        self.root = root

    def find(self, root: str) -> list[str]:
        return [f"{root}/params/../../../../pwned"]

    def get_file(self, name: str, target: str) -> None:
        Path(target).write_text("written by a bucket")


def test_a_bucket_writes_into_its_folder_only(tmp_path, monkeypatch):
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda source: (Bucket(tmp_path), "b/ckpt"))
    monkeypatch.setattr(remote, "CACHE", tmp_path / "a/b/c/cache")
    with pytest.raises(InputError, match=r"names the file 'params/\.\./.*pwned', which is outside"):
        remote.local("memory://b/ckpt")
    assert not list(tmp_path.rglob("pwned"))
