"""Sources on other machines, fetched into a local cache: the hub, buckets, web servers.

* hf://org/name, hf://org/name@revision/sub/folder, and addresses of the hub's pages
* gs://bucket/path, over https where the bucket is public, as openpi's is; else by gcsfs
* https://host/path, a folder that the server lists, or a file
* file:///path, which is a path on this machine
* s3://bucket/path, and whatever else fsspec understands

A file of weights brings what lies beside it, as a local one does: settings, statistics, shards.
"""

import hashlib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, unquote

from pi0_jax.convert.files import web
from pi0_jax.convert.files.known_files import MATTERS
from pi0_jax.convert.files.wanted_files import STATE_PATTERNS, is_state, of_the_hub, of_weights
from pi0_jax.errors import InputError, first_line
from pi0_jax.inside import file_inside
from pi0_jax.io.atomic import atomic_file, atomic_folder
from pi0_jax.optional import needed
from pi0_jax.policy.folder import TOKENIZER_FILE

CACHE = Path.home() / ".cache" / "pi0_jax"
TOKENIZER = ("big_vision", TOKENIZER_FILE)
"""Bucket and name of PaliGemma's tokenizer, which no checkpoint of openpi has."""

# The package that fsspec needs per scheme; each installs fsspec too.
_PACKAGES = {"gs": "gcsfs", "s3": "s3fs"}
_HUB = "https://huggingface.co/"
_LONGEST = 150  # of a name in the cache; file systems have room for 255


def local(source: str) -> Path:
    """Path of a source on this machine; a remote one is fetched once.

    Args:
        source: a path, or an address as at the head of this file.

    Raises:
        InputError: no such place, or a library or the network is missing.
    """
    if source.startswith(_HUB) and "/resolve/" not in source:
        source = _hub_address(source.removeprefix(_HUB))
    # With a query it is an address of one's own, such as a signed one.
    if source.startswith(f"{web.STORAGE}/") and address(source) == source:
        source = "gs://" + unquote(source.removeprefix(f"{web.STORAGE}/"))
    here = on_this_machine(source)
    if here is not None:
        return here
    scheme, _, path = source.partition("://")
    if scheme == "hf":
        return _from_hub(source, path)
    if scheme in ("gs", "gcs"):
        return _from_google(source)
    fetch = _from_web if scheme in ("http", "https") else _from_fsspec
    return _file_or_folder(_cached(source, lambda folder: fetch(source, folder)), source)


def on_this_machine(source: str) -> Path | None:
    """The path of a source that lies on this machine; None for one that has to be fetched.

    Raises:
        InputError: it is empty, or a file:// address that is none of this machine.
    """
    scheme, slashes, path = source.partition("://")
    if scheme == "file" and slashes:
        return _from_file(source, path)
    if slashes:
        return None
    if not source:
        raise InputError("SRC is empty; expected a path, gs://... or hf://org/name")
    return Path(source).expanduser()


def _from_file(source: str, path: str) -> Path:
    """The path in file:///path, or in file://localhost/path.

    Raises:
        InputError: another machine, or a path that does not begin at the root.
    """
    host, slash, rest = path.partition("/")
    if host not in ("", "localhost") or not slash:
        raise InputError(f"{source}: expected file:///path, or the path without file://")
    return Path(f"/{unquote(rest)}")


def _file_or_folder(found: Path, source: str) -> Path:
    """The file in a fetched folder, if the address was that of one file."""
    name = address(source).rstrip("/").rpartition("/")[2]
    inside = found / (unquote(name) if _is_web(source) else name)
    if not inside.is_file():
        return found
    if inside.suffix in MATTERS and len(list(found.iterdir())) == 1:
        _message(
            f"{address(source)}: nothing is known to lie beside it: no settings, no statistics"
        )
    return inside


def _is_web(source: str) -> bool:
    """Whether names in an address are quoted, and a query may follow them."""
    return source.startswith(("http://", "https://"))


def address(source: str) -> str:
    """An address without a web server's query, such as ?download=true, or a signature."""
    return source.partition("?")[0] if _is_web(source) else source


def _hub_address(path: str) -> str:
    """`org/name/tree/main/sub` of a page of the hub -> `hf://org/name@main/sub`."""
    parts = path.strip("/").split("/")
    name, rest = parts[:2], parts[2:]
    if rest[:1] in (["tree"], ["blob"]) and len(rest) > 1:
        name[-1], rest = f"{name[-1]}@{rest[1]}", rest[2:]
    return "hf://" + "/".join([*name, *rest])


def _from_hub(source: str, path: str) -> Path:
    parts = path.strip("/").split("/")
    org, name, folder = parts[0], "".join(parts[1:2]), "/".join(parts[2:])
    # A revision with a slash in it, as refs/pr/3, is written refs%2Fpr%2F3.
    name, _, revision = name.partition("@")
    if not org or not name:
        raise InputError(f"{source}: expected hf://org/name, or hf://org/name@revision/folder")
    # The hub's own library keeps the files in its own cache, which other programs share.
    hub = _library("huggingface_hub", source, "huggingface_hub")
    _message(f"fetching {source}")
    try:
        found = hub.snapshot_download(
            f"{org}/{name}",
            revision=unquote(revision) or None,
            allow_patterns=of_the_hub(folder),
            ignore_patterns=STATE_PATTERNS,
        )
    # Its HTTP client has exceptions of its own, which differ between versions.
    except Exception as error:
        raise InputError(f"{address(source)}: cannot fetch: {first_line(error)}") from error
    if not (Path(found) / folder).exists():
        raise InputError(f"{source}: nothing with weights in {folder!r} there")
    return Path(found) / folder


def _folder_of(source: str) -> tuple[str, str]:
    """The folder of a file of weights, and its name; a source of another kind, and ""."""
    scheme, slashes, path = address(source).partition("://")
    folder, slash, name = path.rpartition("/")
    if not slash or PurePosixPath(name).suffix not in MATTERS:
        return source, ""
    return f"{scheme}{slashes}{folder}", name


def _from_google(source: str) -> Path:
    whole, name = _folder_of(source)
    bucket, _, prefix = whole.partition("://")[2].strip("/").partition("/")

    def fetch(folder: Path) -> None:
        """Public files come without a library; for others there is Google's."""
        try:
            files = web.bucket_files(bucket, prefix)
        except HTTPError as error:
            if error.code not in (401, 403):
                raise
            return _from_fsspec(source, folder)
        return _download(source, of_weights(files, name), folder)

    found = _cached(source, fetch)
    _add_tokenizer(found)
    return _file_or_folder(found, source)


def _from_web(source: str, folder: Path) -> None:
    whole, name = _folder_of(source)
    if not name:
        return _download(source, web.listed_files(source), folder)
    # An address with a query is one's own, such as a signed one: none for the files beside it.
    listed = web.files_near(whole) if address(source) == source else {}
    alone = {unquote(name): source}
    return _download(source, of_weights(listed, unquote(name)) or alone, folder)


def _download(source: str, files: dict[str, str], folder: Path) -> None:
    """Fetches files by their addresses.

    Raises:
        InputError: there are none, or one would lie outside of the folder.
    """
    wanted = {name: url for name, url in files.items() if not is_state(name)}
    if not wanted:
        raise InputError(f"{address(source)}: nothing there")
    for i, (name, url) in enumerate(wanted.items(), 1):
        _message(f"fetching {address(source)}: file {i} of {len(wanted)}")
        target = file_inside(folder, name, source)
        target.parent.mkdir(parents=True, exist_ok=True)
        web.download(url, target)


def _from_fsspec(source: str, folder: Path) -> None:
    """Copies the files of a bucket's path into a folder.

    Raises:
        InputError: there are none, one would lie outside of the folder, or a library is missing.
    """
    package = _PACKAGES.get(source.partition(":")[0], "fsspec")
    fsspec = _library("fsspec", source, package)
    try:
        whole, name = _folder_of(source)
        files, root = fsspec.core.url_to_fs(whole)
    except ImportError as error:
        # fsspec's own, which names no module.
        raise InputError(f"{source}: it needs {package}: run `pip install {package}`") from error
    by_path = {file.removeprefix(root).strip("/"): file for file in files.find(root)}
    found = {file: at for at, file in of_weights(by_path, name).items() if not is_state(at)}
    if not found:
        raise InputError(f"{address(source)}: nothing there")
    for i, (file, inside) in enumerate(found.items(), 1):
        _message(f"fetching {address(source)}: file {i} of {len(found)}")
        target = file_inside(folder, inside or Path(file).name, source)
        target.parent.mkdir(parents=True, exist_ok=True)
        files.get_file(file, str(target))


def _cached(source: str, fetch: Callable[[Path], None]) -> Path:
    """The folder with a source's files, which `fetch` fills if it is not there yet."""
    scheme, _, path = source.partition("://")
    target = CACHE / scheme / _cache_name(source, path.strip("/"))
    if target.exists():
        return target
    try:
        # Only a complete fetch gets the name that later commands trust.
        with atomic_folder(target) as partial:
            fetch(partial)
    except InputError:
        raise
    # Backends of fsspec raise whatever their own libraries raise.
    except Exception as error:
        raise InputError(f"{address(source)}: cannot fetch: {first_line(error)}") from error
    return target


def _cache_name(source: str, path: str) -> str:
    """One flat name per address: of nested folders, a part would be taken for the whole."""
    # Before what lies beside a file of weights was fetched too, its cache had the plain name.
    beside = "+beside" if _folder_of(source)[1] else ""
    name = quote(path, safe="")
    if address(source) == source and len(name) <= _LONGEST:
        return name + beside
    # A signature is nobody's business, and a file system has an end to its names.
    name = quote(address(source).partition("://")[2], safe="")[:_LONGEST]
    return f"{name}+{hashlib.sha256(source.encode()).hexdigest()[:16]}{beside}"


def _add_tokenizer(folder: Path) -> None:
    """Fetches PaliGemma's tokenizer beside a checkpoint of openpi; if not, a note asks for it."""
    target, (bucket, name) = folder / TOKENIZER_FILE, TOKENIZER
    # A checkpoint has folders; one file, or params/ alone, is a part of one.
    if target.exists() or not (folder / "params").is_dir():
        return
    try:
        with atomic_file(target) as partial:
            web.download(f"{web.STORAGE}/{bucket}/{name}", partial)
    except OSError as error:
        _message(f"{name} could not be fetched: {first_line(error)}")


def _library(name: str, source: str, package: str) -> Any:
    with needed(f"{source}: it", f"pip install {package}"):
        return importlib.import_module(name)


def _message(text: str) -> None:
    sys.stderr.write(text + "\n")
