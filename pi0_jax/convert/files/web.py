"""Files from web servers and public Google buckets, with the standard library alone."""

import http.client
import json
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlencode, urljoin
from urllib.request import urlopen

STORAGE = "https://storage.googleapis.com"
"""Google's server, which gives a public bucket's files to everybody."""

_TIMEOUT = 60  # seconds without a byte
_TRIES = 3
_DEEPEST = 5
_NEAR = 4


def download(url: str, file: Path) -> None:
    """Writes the file at an address; a broken connection is tried again.

    Raises:
        OSError: no such file, no connection, or fewer bytes than the server announced.
    """
    for attempt in range(1, _TRIES + 1):
        try:
            with urlopen(url, timeout=_TIMEOUT) as reply, file.open("wb") as out:
                shutil.copyfileobj(reply, out, 2**20)
                announced = int(reply.headers.get("Content-Length") or -1)
            if announced in (-1, file.stat().st_size):
                return
            raise ConnectionError(f"{url}: {announced} bytes announced, {file.stat().st_size} came")
        except HTTPError:
            # The server's answer, which stays the same.
            raise
        except (OSError, http.client.HTTPException) as error:
            if attempt == _TRIES:
                raise ConnectionError(f"{url}: {error}") from error


def bucket_files(bucket: str, prefix: str) -> dict[str, str]:
    """Files of a public Google bucket below a prefix (or the one of this name): path to address.

    Raises:
        OSError: no such bucket, one that is not public, or no connection.
    """
    found, page = {}, ""
    below = f"{prefix}/" if prefix else ""
    while True:
        query = urlencode(
            {"prefix": prefix, "pageToken": page, "fields": "items/name,nextPageToken"}
        )
        with urlopen(f"{STORAGE}/storage/v1/b/{bucket}/o?{query}", timeout=_TIMEOUT) as reply:
            listed = json.load(reply)
        for item in listed.get("items", []):
            name = item["name"]
            # `pi0` is a prefix of `pi0_base` too; a name that ends in a slash marks a folder.
            if name == prefix or (name.startswith(below) and not name.endswith("/")):
                inside = name.removeprefix(prefix).lstrip("/") or Path(name).name
                found[inside] = f"{STORAGE}/{bucket}/{quote(name)}"
        page = listed.get("nextPageToken", "")
        if not page:
            return found


def listed_files(url: str) -> dict[str, str]:
    """Files of a folder that a web server shows as a page of links: path to address.

    Returns:
        The file itself, by its name, where the address is that of a file.

    Raises:
        OSError: no such address, or no connection.
    """
    return _below(url, _DEEPEST) or {unquote(url.partition("?")[0].rpartition("/")[2]): url}


def files_near(url: str) -> dict[str, str]:
    """Files of a folder and a little below it, as far as the server lists them: path to address.

    Far enough for assets/org/robot/norm_stats.json. A folder that may not be read is left out, and
    where nothing is listed there are none.
    """
    try:
        return _below(url, _NEAR, lenient=True)
    except OSError:
        return {}


def _below(url: str, levels: int, *, lenient: bool = False) -> dict[str, str]:
    """Path inside a folder -> address of each file; arguments as `_links`."""
    base = url if url.endswith("/") else f"{url}/"
    links = _links(base, levels, lenient=lenient)
    return {unquote(link.removeprefix(base)): link for link in links}


def _links(base: str, levels: int, *, lenient: bool = False) -> Iterator[str]:
    """Addresses of the files below a folder; none where it is no page of links.

    Args:
        base: the folder's address.
        levels: of folders, this one included.
        lenient: folders below that cannot be read have no files.
    """
    try:
        with urlopen(base, timeout=_TIMEOUT) as reply:
            if reply.headers.get_content_type() != "text/html":
                return
            page = _Page()
            page.feed(reply.read().decode(errors="replace"))
    except HTTPError:
        # A file's address with a slash behind it.
        if levels == _DEEPEST or lenient:
            return
        raise
    for href in page.links:
        link = urljoin(base, href).partition("?")[0]
        # Links to elsewhere and to the folder above are none of its files.
        if not link.startswith(base) or link == base:
            continue
        if not link.endswith("/"):
            yield link
        elif levels > 1:
            yield from _links(link, levels - 1, lenient=lenient)


class _Page(HTMLParser):
    """Collects the links of a page."""

    def __init__(self):
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links += [value for name, value in attrs if name == "href" and value]
