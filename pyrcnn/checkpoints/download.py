"""Downloads files into a cache: resumes interrupted downloads and verifies files at each use."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit, urlunsplit

from ..atomic import replacing
from ..errors import InputError, require

CHUNK = 1 << 20
ATTEMPTS = 4  # in a row that bring no new bytes, before giving up
TIMEOUT = 30.0  # seconds without a byte
PAUSE = 0.5  # seconds before the second attempt, doubled after each attempt without new bytes
NAMED_HASH = re.compile(r"-([0-9a-f]{8,64})\.\w+$")  # torchvision's files carry the first digits of their SHA-256

Progress = Callable[[int, int | None], None]  # bytes done, bytes in all where known


class _Interrupted(Exception):
    """The connection ended early; the bytes received are kept."""


def cache_folder() -> Path:
    """The folder of downloads: ``$PYRCNN_CACHE``, else ``$XDG_CACHE_HOME/pyrcnn``, else ``~/.cache/pyrcnn``."""
    if chosen := os.environ.get("PYRCNN_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyrcnn"


def mirrored(url: str) -> str:
    """``url`` on the server that ``$PYRCNN_MIRROR`` names, if set; the path is appended to the mirror's."""
    mirror = os.environ.get("PYRCNN_MIRROR", "")
    if not mirror:
        return url
    require(
        mirror.startswith(("http://", "https://")), f"PYRCNN_MIRROR must begin with http:// or https://, got {mirror}"
    )
    server = urlsplit(mirror)
    return urlunsplit((server.scheme, server.netloc, server.path.rstrip("/") + urlsplit(url).path, "", ""))


def fetch(url: str, folder: Path, progress: Progress = lambda done, total: None) -> Path:
    """The file of ``url`` in ``folder``, downloaded by the first call; later calls need no network.

    The SHA-256 is stored in ``NAME.sha256`` and checked at every call. An interrupted download leaves ``NAME.part``;
    the next call resumes it if the server's file is unchanged. Several processes may request one file at a time.
    Raises :class:`pyrcnn.InputError` in one line that names the file or the address.
    """
    name = urlsplit(url).path.rpartition("/")[2]
    target, part = folder / name, folder / f"{name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while not target.exists():
            with open(part, "ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # one process writes; closing the file unlocks it
                try:
                    if (
                        os.fstat(file.fileno()).st_nlink and not target.exists()
                    ):  # no other process has finished or given up
                        _download(mirrored(url), file, target, progress)
                finally:
                    if part.exists() and part.stat().st_size == 0:
                        part.unlink()
        _check(target)
    except OSError as error:
        raise InputError(f"the cache {folder} cannot be used: {error.strerror or error}") from None
    return target


def _check(target: Path) -> None:
    """Compare the file's SHA-256 with the stored one; store it for a file that was copied here by hand."""
    record, found = target.with_name(f"{target.name}.sha256"), _digest(target)
    if not record.exists():
        _matches_name(target.name, found)
        _record(record, found)
    if record.read_text().split()[:1] != [found]:
        raise InputError(f"{target} has changed since it was downloaded: delete it to download it again")


def _record(record: Path, digest: str) -> None:
    with replacing(record) as temporary:
        temporary.write_text(f"{digest}  {record.stem}\n")  # the format of sha256sum


def _matches_name(name: str, digest: str) -> None:
    named = NAMED_HASH.search(name)
    require(named is None or digest.startswith(named[1]), f"{name} is damaged: its SHA-256 begins {digest[:8]}")


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _download(url: str, part: BinaryIO, target: Path, progress: Progress) -> None:
    """Fill ``part``, resuming it while attempts bring new bytes, and rename it to ``target``."""
    tag = target.with_name(f"{target.name}.part.tag")  # identifies the version of the server's file
    before, failures = -1, 0
    while True:
        try:
            _transfer(url, part, tag, progress)
            break
        except _Interrupted as error:
            part.flush()
            size = part.tell()
            failures = 0 if size > before else failures + 1
            before = size
            if failures >= ATTEMPTS - 1:
                raise InputError(
                    f"{url} was interrupted after {size} bytes ({error}); repeat the command to resume"
                ) from None
            time.sleep(PAUSE * 2**failures)
    part.flush()
    os.fsync(part.fileno())
    digest = _digest(Path(part.name))
    try:
        _matches_name(target.name, digest)
    except InputError:
        part.truncate(0)
        raise
    _record(target.with_name(f"{target.name}.sha256"), digest)
    os.replace(part.name, target)
    tag.unlink(missing_ok=True)


def _transfer(url: str, file: BinaryIO, tag: Path, progress: Progress) -> None:
    """Append the missing bytes of ``url`` to ``file``; start again if the server's file has changed."""
    request = urllib.request.Request(url, headers={"User-Agent": "pyrcnn", "Accept-Encoding": "identity"})
    begin: int = file.seek(0, os.SEEK_END)
    total: int | None
    if begin and tag.exists():
        request.add_header("Range", f"bytes={begin}-")
        request.add_header("If-Range", tag.read_text())  # the server sends the whole file if it has changed
    with _opened(request) as answer:
        headers = answer.headers
        if answer.status == 206:
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", ""))
            require(match is not None and int(match[1]) == begin, f"{url} answers with another range than requested")
            total = int(match[2])  # type: ignore[index]
        else:
            begin = 0
            file.truncate(begin)
            length = headers.get("Content-Length")
            total = int(length) if length is not None and length.isdigit() else None
            etag = headers.get("ETag", "")
            known = (
                etag if etag.startswith('"') else headers.get("Last-Modified", "")
            )  # weak tags do not identify bytes
            tag.write_text(known) if known else tag.unlink(missing_ok=True)
        done = begin
        progress(done, total)
        try:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress(done, total)
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            raise _Interrupted(str(error) or type(error).__name__) from None
    if total is not None and done < total:
        raise _Interrupted(f"{total} were announced")
    if total is not None and done > total:
        file.truncate(0)
        raise InputError(f"{url} sent {done} bytes, announced {total}")


def _opened(request: urllib.request.Request) -> Any:
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and request.has_header("Range"):  # the part is longer than the server's file
            headers = {name: value for name, value in request.header_items() if name not in ("Range", "If-range")}
            return _opened(urllib.request.Request(request.full_url, headers=headers))
        if error.code in (429, 500, 502, 503, 504):
            raise _Interrupted(f"the server answers {error.code} {error.reason}") from None
        raise InputError(f"{request.full_url} answers {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise InputError(f"{request.host} cannot be reached: {error.reason}") from None
    except (http.client.HTTPException, OSError) as error:
        raise _Interrupted(str(error) or type(error).__name__) from None
