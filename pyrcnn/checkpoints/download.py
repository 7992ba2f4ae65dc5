"""Downloads files into a cache: resumes interrupted downloads and verifies files at each use."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import logging
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit, urlunsplit

from ..atomic import replacing
from ..errors import InputError, require
from ..texts import printable
from . import integrity

SCHEMES = ("http", "https")
CHUNK = 1 << 20
ATTEMPTS = 4  # in a row that bring no new bytes, before giving up
TIMEOUT = 30.0  # seconds without a byte
PAUSE = 0.5  # seconds before the second attempt, doubled after each attempt without new bytes
NAMED_HASH = re.compile(r"-([0-9a-f]{8,64})\.\w+$")  # torchvision's files carry the first digits of their SHA-256

_LOG = logging.getLogger("pyrcnn.checkpoints")

Progress = Callable[[int, int | None], None]  # bytes done, bytes in all where known


class _Interrupted(Exception):
    """The connection ended early; the bytes received are kept."""


def cache_folder() -> Path:
    """The folder of downloads: ``$PYRCNN_CACHE``, else ``$XDG_CACHE_HOME/pyrcnn``, else ``~/.cache/pyrcnn``."""
    chosen = os.environ.get("PYRCNN_CACHE", "")
    try:
        if chosen:
            return Path(chosen).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyrcnn"
    except RuntimeError as error:  # of a user without a home folder, as containers have
        raise InputError(f"PYRCNN_CACHE must be a folder for downloads, got {chosen!r}: {error}") from None


def mirrored(url: str) -> str:
    """``url`` on the server that ``$PYRCNN_MIRROR`` names, if set; the path is appended to the mirror's."""
    mirror = os.environ.get("PYRCNN_MIRROR", "")
    if not mirror:
        return url
    try:
        server = urlsplit(mirror)
    except ValueError as error:
        raise InputError(f"PYRCNN_MIRROR must be an address, got {mirror} ({error})") from None
    good = server.scheme in SCHEMES and bool(server.netloc)
    require(good, f"PYRCNN_MIRROR must begin with http:// or https:// and a server, got {mirror}")
    return urlunsplit((server.scheme, server.netloc, server.path.rstrip("/") + urlsplit(url).path, "", ""))


def fetch(url: str, folder: Path, progress: Progress = lambda done, total: None) -> Path:
    """The file of ``url`` in ``folder``, downloaded by the first call; later calls need no network.

    What arrives is kept if it is as long as announced, has the SHA-256 that its name may end in, and is a whole file of
    the format that its name says (:mod:`.integrity`). Its SHA-256 is stored in ``NAME.sha256`` and checked at every
    call; a file that is damaged is downloaded again, once, and replaced when the new one is there. An interrupted
    download leaves ``NAME.part``; the next call resumes it if the server's file is unchanged. Several processes may
    request one file at a time.

    Raises :class:`pyrcnn.InputError` in one line that names the file or the address.
    """
    parts = urlsplit(url)
    name = parts.path.rpartition("/")[2]
    require(parts.scheme in SCHEMES and name not in ("", ".", ".."), f"url must be of a file on the web, got {url}")
    target = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fault = _fault(target)
        if fault is not None:
            _obtain_again(url, target, progress, fault) if target.exists() else _obtain(url, target, progress)
    except OSError as error:
        raise InputError(f"the cache {folder} cannot be used: {error.strerror or error}") from None
    return target


def _obtain_again(url: str, target: Path, progress: Progress, fault: str) -> None:
    _LOG.warning("%s %s: downloading it again", printable(target), fault)
    try:
        _obtain(url, target, progress)
    except InputError as error:
        raise InputError(f"{target} {fault}; downloading it again failed: {error}") from None


def _obtain(url: str, target: Path, progress: Progress) -> None:
    """Download ``target`` unless another process does it meanwhile."""
    part = target.with_name(f"{target.name}.part")
    while _fault(target) is not None:
        with open(part, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # one process writes; closing the file unlocks it
            try:
                # Another process may have finished or given up.
                if os.fstat(file.fileno()).st_nlink and _fault(target) is not None:
                    _download(mirrored(url), file, target, progress)
            finally:
                if part.exists() and part.stat().st_size == 0:
                    part.unlink()


def _fault(target: Path) -> str | None:
    """What is wrong with a file of the cache; None if it can be used. Files that were copied there are recorded."""
    if not target.exists():
        return "is missing"
    record, found = target.with_name(f"{target.name}.sha256"), _digest(target)
    stored = record.read_text(errors="replace") if record.exists() else ""
    if stored and stored.split()[:1] != [found]:
        return "has changed since it was downloaded"
    fault = None if stored == _record(target.name, found) else _wrong(target, target.name, found)
    if fault is None and stored != _record(target.name, found):
        with contextlib.suppress(InputError):  # a cache that may only be read
            _write(record, _record(target.name, found))
    return fault


def _wrong(path: Path, name: str, digest: str) -> str | None:
    """What is wrong with a new file that shall have ``name``, by the checksum in the name or by its format."""
    if named := NAMED_HASH.search(name):
        return None if digest.startswith(named[1]) else f"is damaged: its SHA-256 begins with {digest[:8]}"
    return integrity.problem(path, name)


def _record(name: str, digest: str) -> str:
    """The content of ``NAME.sha256``, for ``sha256sum -c``; the comment tells that the format was checked."""
    return f"{digest}  {name}\n" + ("# whole\n" if integrity.known(name) else "")


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)


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
    wrong = _wrong(Path(part.name), target.name, digest)
    if wrong is not None:
        part.truncate(0)
        tag.unlink(missing_ok=True)
        raise InputError(f"what {url} sent as {target.name} {wrong}")
    _write(target.with_name(f"{target.name}.sha256"), _record(target.name, digest))
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
        require(answer.status in (200, 206), f"{url} answers {answer.status} {answer.reason}")
        coded, kind = headers.get("Content-Encoding", "identity"), headers.get_content_type()
        require(coded == "identity", f"{url} answers with the encoding {coded}, which was not asked for")
        page = "Content-Type" in headers and kind in ("text/html", "application/xhtml+xml")
        require(not page, f"{url} answers with a web page (the login page of a network?)")  # keeps what is there
        if answer.status == 206:
            match = re.fullmatch(r"bytes ([0-9]+)-[0-9]+/([0-9]+)", headers.get("Content-Range", ""))
            require(match is not None and int(match[1]) == begin, f"{url} answers with another range than requested")
            total = int(match[2])  # type: ignore[index]
        else:
            begin = 0
            file.truncate(begin)
            length = headers.get("Content-Length", "")
            total = int(length) if re.fullmatch("[0-9]{1,18}", length) else None
            etag = headers.get("ETag", "")
            known = (
                etag if etag.startswith('"') else headers.get("Last-Modified", "")
            )  # weak tags do not identify bytes
            tag.write_text(known) if known else tag.unlink(missing_ok=True)
        free = shutil.disk_usage(tag.parent).free
        needed = (total or 0) - begin
        require(needed <= free, f"{url} needs {needed / 1e6:.0f} MB, {tag.parent} has {free / 1e6:.0f} MB left")
        done = begin
        progress(done, total)
        while chunk := _read(answer):
            file.write(chunk)
            done += len(chunk)
            progress(done, total)
    if total is not None and done < total:
        raise _Interrupted(f"{total} were announced")
    if total is not None and done > total:
        file.truncate(0)
        raise InputError(f"{url} sent {done} bytes, announced {total}")


def _read(answer: Any) -> bytes:
    try:
        return answer.read(CHUNK)
    except (http.client.HTTPException, OSError) as error:
        raise _Interrupted(str(error) or type(error).__name__) from None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to other web servers, but neither to other schemes nor from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme = urlsplit(newurl).scheme
        allowed = scheme in SCHEMES and not (req.type == "https" and scheme == "http")
        require(allowed, f"{req.full_url} redirects to {newurl}, which is no safe address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opened(request: urllib.request.Request) -> Any:
    try:
        return urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and request.has_header("Range"):  # the part is longer than the server's file
            headers = {name: value for name, value in request.header_items() if name not in ("Range", "If-range")}
            return _opened(urllib.request.Request(request.full_url, headers=headers))
        reason = (str(error.reason).splitlines() or [""])[0]
        if error.code in (429, 500, 502, 503, 504):
            raise _Interrupted(f"the server answers {error.code} {reason}") from None
        redirect = ", a redirect that cannot be followed" if 300 <= error.code < 400 else ""
        raise InputError(f"{request.full_url} answers {error.code} {reason}{redirect}") from None
    except InputError:
        raise
    except urllib.error.URLError as error:
        raise InputError(f"{request.host} cannot be reached: {error.reason}") from None
    except (ValueError, http.client.InvalidURL) as error:
        raise InputError(f"{request.full_url} redirects to an address that is malformed ({error})") from None
    except (http.client.HTTPException, OSError) as error:
        raise _Interrupted(str(error) or type(error).__name__) from None
