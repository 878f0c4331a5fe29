"""SRC elsewhere: the real fetching code with small local files behind it."""

from pathlib import Path
from types import SimpleNamespace

import fsspec
import huggingface_hub
import pytest

from pi0_jax.convert import remote
from pi0_jax.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(remote, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """gs://bucket is a local folder."""
    folder = tmp_path / "bucket"
    for name in ("params/_METADATA", "params/d/0", "assets/a/norm_stats.json", "train_state/d/1"):
        (folder / "pi0" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "pi0" / name).write_text(name)
    files = fsspec.filesystem("file")

    def url_to_fs(url: str) -> tuple[object, str]:
        return files, str(folder / url.removeprefix("gs://bucket/"))

    monkeypatch.setattr(fsspec.core, "url_to_fs", url_to_fs)
    return folder


def test_a_local_path_stays() -> None:
    assert remote.local("some/folder") == Path("some/folder")


def test_a_bucket_is_fetched_once_without_the_optimizer(bucket: Path, cache: Path) -> None:
    found = remote.local("gs://bucket/pi0")
    assert found == cache / "gs/bucket%2Fpi0"
    assert (found / "params/d/0").read_text() == "params/d/0"
    assert not (found / "train_state").exists()
    (bucket / "pi0/params/d/0").unlink()
    assert remote.local("gs://bucket/pi0") == found


@pytest.mark.usefixtures("bucket")
def test_a_part_fetched_before_does_not_pass_for_the_whole() -> None:
    remote.local("gs://bucket/pi0/params")
    whole = remote.local("gs://bucket/pi0")
    assert (whole / "assets/a/norm_stats.json").is_file()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ImportError("Please install gcsfs"), "gs://b/x: needs gcsfs: pip install gcsfs$"),
        (LookupError("401"), "gs://b/x: cannot fetch: 401$"),
    ],
)
def test_what_a_store_raises_is_one_line(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def url_to_fs(_: str) -> None:
        raise error

    monkeypatch.setattr(fsspec.core, "url_to_fs", url_to_fs)
    with pytest.raises(InputError, match=message):
        remote.local("gs://b/x")


def test_home_is_understood_and_nothing_is_refused() -> None:
    assert remote.local("~/x") == Path.home() / "x"
    with pytest.raises(InputError, match="SRC is empty"):
        remote.local("")


def test_an_interrupted_fetch_is_not_trusted(
    bucket: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, _ = fsspec.core.url_to_fs("gs://bucket/pi0")

    def broken(source: str, target: str) -> None:
        raise OSError(f"connection lost\n{source} {target}")

    with monkeypatch.context() as patch:
        patch.setattr(type(files), "get_file", staticmethod(broken))
        with pytest.raises(InputError, match=r"gs://bucket/pi0: cannot fetch: connection lost$"):
            remote.local("gs://bucket/pi0")
    assert not list(cache.rglob("*pi0*"))
    assert remote.local("gs://bucket/pi0").is_dir()


@pytest.mark.usefixtures("bucket")
def test_nothing_there() -> None:
    with pytest.raises(InputError, match="nothing there"):
        remote.local("gs://bucket/none")


def test_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = SimpleNamespace()

    def snapshot_download(name: str, **options: list[str]) -> str:
        asked.name, asked.options = name, options
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert remote.local("hf://lerobot/pi0") == tmp_path / "snapshot"
    assert asked.name == "lerobot/pi0"
    assert "*.safetensors" in asked.options["allow_patterns"]


def test_the_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(name: str, **options: list[str]) -> str:
        raise OSError(f"no route to host for {name} {len(options)}")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(InputError, match="hf://lerobot/pi0: cannot fetch: no route"):
        remote.local("hf://lerobot/pi0")
    with pytest.raises(InputError, match="expected hf://org/name"):
        remote.local("hf://lerobot")
