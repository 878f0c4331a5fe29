"""SRC elsewhere: the real fetching code with small local files behind it."""

import contextlib
import functools
import json
import sys
import threading
from collections.abc import Iterator
from email.message import Message
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import HTTPError
from urllib.parse import parse_qs, unquote, urlsplit

import fsspec
import huggingface_hub
import pytest
from huggingface_hub.utils import filter_repo_objects

from pi0_jax.convert.files import remote, web
from pi0_jax.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(remote, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """s3://bucket is a local folder."""
    folder = tmp_path / "bucket"
    for name in ("params/_METADATA", "params/d/0", "assets/a/norm_stats.json", "train_state/d/1"):
        (folder / "pi0" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "pi0" / name).write_text(name)
    files = fsspec.filesystem("file")

    def url_to_fs(url: str) -> tuple[object, str]:
        return files, str(folder / url.removeprefix("s3://bucket/"))

    monkeypatch.setattr(fsspec.core, "url_to_fs", url_to_fs)
    return folder


def test_a_local_path_stays() -> None:
    assert remote.local("some/folder") == Path("some/folder")


def test_a_bucket_is_fetched_once_without_the_optimizer(bucket: Path, cache: Path) -> None:
    found = remote.local("s3://bucket/pi0")
    assert found == cache / "s3/bucket%2Fpi0"
    assert (found / "params/d/0").read_text() == "params/d/0"
    assert not (found / "train_state").exists()
    (bucket / "pi0/params/d/0").unlink()
    assert remote.local("s3://bucket/pi0") == found


def test_a_file_of_weights_brings_its_settings(bucket: Path) -> None:
    """Of the folders beside it statistics alone."""
    wanted = {
        "m[1] a%20b.safetensors",
        "config.json",
        "assets/a/norm_stats.json",
        "a/norm_stats.json",
    }
    files(bucket / "lerobot", *wanted, "optimizer.pt", "readme.md", "runs/7/log.json")
    found = remote.local("s3://bucket/lerobot/m[1] a%20b.safetensors")
    inside = {f.relative_to(found.parent).as_posix() for f in found.parent.rglob("*.*")}
    assert inside == wanted


@pytest.mark.usefixtures("cache")
def test_a_folder_with_a_name_of_weights(bucket: Path) -> None:
    files(bucket / "x/pytorch_model.bin", "config.json", "part.safetensors")
    for source in ("s3://bucket/x/pytorch_model.bin", "s3://bucket/x/pytorch_model.bin/"):
        found = remote.local(source)
        assert sorted(file.name for file in found.iterdir()) == ["config.json", "part.safetensors"]


@pytest.mark.usefixtures("bucket")
def test_a_part_fetched_before_does_not_pass_for_the_whole() -> None:
    remote.local("s3://bucket/pi0/params")
    whole = remote.local("s3://bucket/pi0")
    assert (whole / "assets/a/norm_stats.json").is_file()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ImportError("Please install s3fs"),
            "s3://b/x: it needs s3fs: run `pip install s3fs`$",
        ),
        (LookupError("401"), "s3://b/x: cannot fetch: 401$"),
    ],
)
def test_what_a_store_raises_is_one_line(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def url_to_fs(_: str) -> None:
        raise error

    monkeypatch.setattr(fsspec.core, "url_to_fs", url_to_fs)
    with pytest.raises(InputError, match=message):
        remote.local("s3://b/x")


def test_home_is_understood_and_nothing_is_refused() -> None:
    assert remote.local("~/x") == Path.home() / "x"
    with pytest.raises(InputError, match="SRC is empty"):
        remote.local("")


def test_an_interrupted_fetch_is_not_trusted(
    bucket: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, _ = fsspec.core.url_to_fs("s3://bucket/pi0")

    def broken(source: str, target: str) -> None:
        raise OSError(f"connection lost\n{source} {target}")

    with monkeypatch.context() as patch:
        patch.setattr(type(files), "get_file", staticmethod(broken))
        with pytest.raises(InputError, match=r"s3://bucket/pi0: cannot fetch: connection lost$"):
            remote.local("s3://bucket/pi0")
    assert not list(cache.rglob("*pi0*"))
    assert remote.local("s3://bucket/pi0").is_dir()


@pytest.mark.usefixtures("bucket")
def test_nothing_there() -> None:
    with pytest.raises(InputError, match="nothing there"):
        remote.local("s3://bucket/none")


CHECKPOINT = ["params/_METADATA", "params/d/0", "assets/a/norm_stats.json", "train_state/d/1"]


class Google(SimpleHTTPRequestHandler):
    """A public bucket as Google serves it, two names per page of its list, from local files."""

    root = Path()
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        url = urlsplit(self.path)
        parts = unquote(url.path).strip("/").split("/")
        if parts[:3] == ["storage", "v1", "b"]:
            query = parse_qs(url.query)
            return self.reply(
                self.listed(parts[3], query.get("prefix", [""])[0], query.get("pageToken"))
            )
        file = self.root.joinpath(*parts)
        if not file.is_file():
            return self.send_error(404)
        return self.reply(file.read_bytes())

    def listed(self, bucket: str, prefix: str, page: list[str] | None) -> bytes:
        folder = self.root / bucket
        names = sorted(f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file())
        names = [name for name in names if name.startswith(prefix)]
        start = int(page[0]) if page else 0
        values: dict[str, Any] = {"items": [{"name": name} for name in names[start : start + 2]]}
        if start + 2 < len(names):
            values["nextPageToken"] = str(start + 2)
        return json.dumps(values).encode()

    def reply(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Pages(SimpleHTTPRequestHandler):
    """A web server that lists its folders."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def serve(handler: Any) -> Iterator[str]:
    """The address of a server on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


@pytest.fixture
def google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the buckets of a Google on this machine."""
    monkeypatch.setattr(Google, "root", tmp_path / "google")
    monkeypatch.setattr(Google, "asked", [])
    with serve(Google) as address:
        monkeypatch.setattr(web, "STORAGE", address)
        yield tmp_path / "google"


def test_a_public_bucket_needs_no_library(google: Path, cache: Path) -> None:
    files(google / "bucket/ckpt/pi0", *CHECKPOINT)
    files(google / "bucket/ckpt/pi0_base", "params/other")
    files(google / "big_vision", "paligemma_tokenizer.model")
    found = remote.local("gs://bucket/ckpt/pi0")
    assert found == cache / "gs/bucket%2Fckpt%2Fpi0"
    inside = sorted(f.relative_to(found).as_posix() for f in found.rglob("*") if f.is_file())
    # The tokenizer comes along, the optimizer's state does not.
    assert inside == sorted([*CHECKPOINT[:3], "paligemma_tokenizer.model"])
    assert (found / "params/d/0").read_text() == "params/d/0"
    count = len(Google.asked)
    assert remote.local("gs://bucket/ckpt/pi0/") == found
    assert len(Google.asked) == count
    assert remote.local(f"{web.STORAGE}/bucket/ckpt/pi0") == found


def test_a_tokenizer_out_of_reach_is_no_error(
    google: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files(google / "bucket/pi0", *CHECKPOINT)
    assert not (remote.local("gs://bucket/pi0") / "paligemma_tokenizer.model").exists()
    assert "paligemma_tokenizer.model could not be fetched: HTTP Error 404" in (
        capsys.readouterr().err
    )


def test_one_file_of_a_bucket(google: Path) -> None:
    """With its settings, and without what belongs to other weights."""
    files(google / "bucket/x", "model.safetensors", "config.json", "other.safetensors")
    found = remote.local("gs://bucket/x/model.safetensors")
    assert (found.name, found.read_text()) == ("model.safetensors", "model.safetensors")
    assert sorted(file.name for file in found.parent.iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    files(google / "bucket", "root.safetensors")
    assert remote.local("gs://bucket/root.safetensors").read_text() == "root.safetensors"
    with pytest.raises(InputError, match=r"x/none\.safetensors: nothing there"):
        remote.local("gs://bucket/x/none.safetensors")
    with pytest.raises(InputError, match="gs://bucket/y: nothing there"):
        remote.local("gs://bucket/y")


def test_a_private_bucket_needs_googles_library(
    google: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise HTTPError("url", 401, "Unauthorized", Message(), None)

    monkeypatch.setattr(web, "bucket_files", refused)
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(InputError, match=r"gs://b/x: it needs gcsfs: run `pip install gcsfs`$"):
        remote.local("gs://b/x")


def test_a_web_server_that_lists_its_folders(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files(tmp_path / "www/run/7", "model.safetensors", "assets/a/norm_stats.json", "optimizer.pt")
    files(tmp_path / "www", "elsewhere.bin")
    handler = functools.partial(Pages, directory=str(tmp_path / "www"))
    with serve(handler) as address:
        found = remote.local(f"{address}/run/7")
        inside = sorted(f.relative_to(found).as_posix() for f in found.rglob("*") if f.is_file())
        assert inside == ["assets/a/norm_stats.json", "model.safetensors"]
        file = remote.local(f"{address}/run/7/model.safetensors")
        assert file.read_text() == "model.safetensors"
        assert (file.parent / "assets/a/norm_stats.json").is_file()
        assert capsys.readouterr().err.count("nothing is known to lie beside it") == 0
        # An address of one's own says nothing of others.
        file = remote.local(f"{address}/run/7/model.safetensors?download=true")
        assert [other.name for other in file.parent.iterdir()] == ["model.safetensors"]
        assert "model.safetensors: nothing is known to lie beside it" in capsys.readouterr().err
        # A signature is long, and nobody else's business.
        file = remote.local(f"{address}/run/7/model.safetensors?Signature={'secret' * 60}")
        assert file.read_text() == "model.safetensors"
        assert not list(cache.rglob("*secret*")) and "secret" not in capsys.readouterr().err
        with pytest.raises(InputError, match="/none: cannot fetch: HTTP Error 404"):
            remote.local(f"{address}/none")
    assert not list(cache.rglob("*none*"))


@pytest.mark.usefixtures("cache")
def test_folders_beside_a_file_of_weights_may_be_closed(tmp_path: Path) -> None:
    class Closed(Pages):
        def do_GET(self) -> None:
            if "private" in self.path:
                self.send_error(403)
            else:
                super().do_GET()

    files(tmp_path, "model.safetensors", "config.json", "private/assets/x.json")
    with serve(functools.partial(Closed, directory=str(tmp_path))) as address:
        file = remote.local(f"{address}/model.safetensors")
        assert (file.parent / "config.json").is_file()
        # Of a folder that is asked for itself everything is wanted.
        with pytest.raises(InputError, match="cannot fetch: HTTP Error 403"):
            remote.local(address)


def test_a_connection_that_breaks_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Short(Google):
        def reply(self, content: bytes) -> None:
            # The first answer is shorter than announced.
            super().reply(content if len(self.asked) > 1 else content + b"more")
            if len(self.asked) == 1:
                self.close_connection = True

        def send_header(self, keyword: str, value: str) -> None:
            longer = len(self.asked) == 1 and keyword == "Content-Length"
            super().send_header(keyword, str(int(value) + 9) if longer else value)

    monkeypatch.setattr(Google, "root", tmp_path / "google")
    monkeypatch.setattr(Google, "asked", [])
    files(tmp_path / "google", "x.bin")
    with serve(Short) as address:
        web.download(f"{address}/x.bin", tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_text() == "x.bin"
    assert len(Google.asked) == 2


@pytest.mark.parametrize(
    ("source", "name", "revision", "folder"),
    [
        ("hf://lerobot/pi0", "lerobot/pi0", None, ""),
        ("hf://lerobot/pi0/", "lerobot/pi0", None, ""),
        ("hf://org/x@v2", "org/x", "v2", ""),
        ("hf://org/x/global_step_9/actor", "org/x", None, "global_step_9/actor"),
        ("hf://org/x@refs%2Fpr%2F3/sub", "org/x", "refs/pr/3", "sub"),
        ("https://huggingface.co/org/x", "org/x", None, ""),
        ("https://huggingface.co/org/x/tree/main/sub/a", "org/x", "main", "sub/a"),
    ],
)
def test_the_hub(
    source: str,
    name: str,
    revision: str | None,
    folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, Any] = {}

    def snapshot_download(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(tmp_path / "snapshot")

    (tmp_path / "snapshot" / folder).mkdir(parents=True)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert remote.local(source) == tmp_path / "snapshot" / folder
    assert (asked["name"], asked["revision"]) == (name, revision)
    assert f"{folder}/*.safetensors".lstrip("/") in asked["allow_patterns"]


HUB_FILES = [
    "config.json",
    "README.md",
    "run/config.json",
    "run/model.safetensors",
    "run/model_ema.safetensors",
    "run/part-00001-of-00002.safetensors",
    "run/part-00002-of-00002.safetensors",
    "run/part.safetensors.index.json",
    "run/policy_preprocessor.json",
    "run/policy_preprocessor_step_5_normalizer_processor.safetensors",
    "run/assets/a/norm_stats.json",
    "run/paligemma_tokenizer.model",
    "run/stats.npz",
    "run/optimizer.pt",
]
SMALL = [HUB_FILES[i] for i in (2, 7, 8, 9, 10, 11)]


@pytest.mark.parametrize(
    ("inside", "fetched"),
    [
        # A file of statistics that no program reads is an error, so it has to come.
        ("/run", HUB_FILES[2:13]),
        ("/run/model.safetensors", [*SMALL, "run/model.safetensors"]),
        ("/run/part-00001-of-00002.safetensors", [*SMALL, *HUB_FILES[5:7]]),
        ("/run/part.safetensors.index.json", [*SMALL, *HUB_FILES[5:7]]),
    ],
)
def test_what_is_fetched_of_the_hub(
    inside: str, fetched: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def snapshot_download(_: str, **options: Any) -> str:
        keys = ("allow_patterns", "ignore_patterns")
        chosen = filter_repo_objects(HUB_FILES, **{key: options[key] for key in keys})
        files(tmp_path / "snapshot", *chosen)
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    found = remote.local(f"hf://org/x{inside}")
    assert found == tmp_path / f"snapshot{inside}"
    there = [f for f in (tmp_path / "snapshot").rglob("*") if f.is_file()]
    names = [f.relative_to(tmp_path / "snapshot").as_posix() for f in there]
    assert sorted(names) == sorted(fetched)


def test_an_address_of_this_machine_is_a_path() -> None:
    for source in ("file:///data/my%20run", "file://localhost/data/my%20run"):
        assert remote.local(source) == Path("/data/my run")
    for source in ("file://data/run", "file://"):
        with pytest.raises(InputError, match=f"{source}: expected file:///path, or the path with"):
            remote.local(source)


def test_a_folder_that_the_hub_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(InputError, match="hf://org/x/none: nothing with weights in 'none' there"):
        remote.local("hf://org/x/none")


class ReadTimedOutError(Exception):
    """As httpx's: neither an OSError nor one of the hub's own."""


@pytest.mark.parametrize("error", [OSError, ReadTimedOutError])
def test_the_hub_out_of_reach(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(name: str, **options: list[str]) -> str:
        raise error(f"no route to host for {name} {len(options)}")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(InputError, match="hf://lerobot/pi0: cannot fetch: no route"):
        remote.local("hf://lerobot/pi0")
    with pytest.raises(InputError, match="expected hf://org/name"):
        remote.local("hf://lerobot")
