"""What a download brings is kept only if it is the file that it should be, and a damaged cache heals."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from pyrcnn import InputError
from pyrcnn.checkpoints import download, integrity
from pyrcnn.checkpoints.download import fetch
from tests.checkpoints.test_download import CONTENT, Server, names, server
from tests.writing.test_atomic import no_file_larger_than

__all__ = ["server"]  # the fixture
PAGE = b"\n <!DOCTYPE html>\n<html><body>Please log in</body></html>" + b" " * 4000


def tar_gz(content: bytes = os.urandom(3_000_000)) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        member = tarfile.TarInfo("model/checkpoint")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


def pth(**options: Any) -> bytes:
    data = io.BytesIO()
    torch.save({"weight": torch.rand(50_000)}, data, **options)
    return data.getvalue()


def pkl() -> bytes:
    return pickle.dumps({"model": {"weight": os.urandom(100_000)}})


WHOLE = {"m.tar.gz": tar_gz(), "m.tgz": tar_gz(), "m.pth": pth(), "m.pt": pth(), "m.pkl": pkl(), "m.bin": CONTENT}
FORMATS = [name for name in WHOLE if name != "m.bin"]


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


def damaged(name: str) -> dict[str, bytes]:
    """Contents that no file with this name has."""
    whole = WHOLE[name]
    found = {"page": PAGE, "xml": b"<?xml version='1.0'?><Error>NoSuchKey</Error>", "text": b"Not found", "empty": b""}
    found |= {"half": whole[: len(whole) // 2], "nearly whole": whole[:-5], "another": WHOLE["m.bin"]}
    if not name.endswith(".pkl"):  # whose bytes in the middle could be any
        found["flipped"] = flipped(whole)
    if name.endswith("gz"):
        found |= {"no tar": gzip.compress(os.urandom(10_000)), "bomb": gzip.compress(bytes(300_000_000), 9)}
    return found


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_are_kept(name: str, server: Server, tmp_path: Path) -> None:
    server.files[f"/{name}"] = WHOLE[name]
    assert fetch(f"{server.url}/{name}", tmp_path).read_bytes() == WHOLE[name]
    assert names(tmp_path) == [name, f"{name}.sha256"]
    server.files.clear()
    fetch(f"{server.url}/{name}", tmp_path)
    legacy = pth(_use_new_zipfile_serialization=False)
    server.files["/old.pth"] = legacy
    assert fetch(f"{server.url}/old.pth", tmp_path).read_bytes() == legacy


@pytest.mark.parametrize("length", [True, False], ids=["with Content-Length", "without"])
@pytest.mark.parametrize("name", FORMATS)
def test_what_is_no_such_file_is_not_kept(name: str, length: bool, server: Server, tmp_path: Path) -> None:
    for kind, body in damaged(name).items():
        headers = {"Content-Length": str(len(body))} if length else {"Connection": "close"}
        server.answers[f"/{name}"] = (200, headers, body)
        with pytest.raises(InputError, match=rf"what http://.* sent as {name.replace('.', '[.]')} ") as error:
            fetch(f"{server.url}/{name}", tmp_path / "cache")
        assert "\n" not in str(error.value), kind
        assert names(tmp_path / "cache") == [], kind
    server.answers[f"/{name}"] = (200, {}, WHOLE[name])
    assert fetch(f"{server.url}/{name}", tmp_path / "cache").read_bytes() == WHOLE[name]


def test_a_page_does_not_cost_what_was_received_before(server: Server, tmp_path: Path) -> None:
    server.cut = [300_000, *[0] * 10]
    with pytest.raises(InputError, match="interrupted after 300000 bytes"):
        fetch(f"{server.url}/zoo/file.bin", tmp_path)
    server.cut.clear()
    for kind in ("text/html", "text/html; charset=utf-8", "application/xhtml+xml"):
        server.answers["/zoo/file.bin"] = (200, {"Content-Type": kind}, PAGE)
        with pytest.raises(InputError, match="answers with a web page"):
            fetch(f"{server.url}/zoo/file.bin", tmp_path)
    server.answers.clear()
    server.ranges.clear()
    assert fetch(f"{server.url}/zoo/file.bin", tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["bytes=300000-"]


@pytest.mark.parametrize("status", [201, 204, 203])
def test_other_successes_are_no_file(status: int, server: Server, tmp_path: Path) -> None:
    server.answers["/zoo/file.bin"] = (status, {}, b"")
    with pytest.raises(InputError, match=f"answers {status}"):
        fetch(f"{server.url}/zoo/file.bin", tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "9" * 17},
        {"Content-Encoding": "gzip"},
    ],
)
def test_headers_that_cannot_be_right(headers: dict[str, str], server: Server, tmp_path: Path) -> None:
    server.answers["/zoo/file.bin"] = (200, headers, CONTENT)
    with pytest.raises(InputError, match=r"needs \d+ MB, .* left|with the encoding gzip"):
        fetch(f"{server.url}/zoo/file.bin", tmp_path)
    assert names(tmp_path) == [] or names(tmp_path) == ["file.bin.part.tag"]


@pytest.mark.parametrize("length", ["", "many", "-1", "²", "1e3"])
def test_a_length_that_is_no_number_is_ignored(length: str, server: Server, tmp_path: Path) -> None:
    server.answers["/zoo/file.bin"] = (200, {"Content-Length": length}, CONTENT)
    assert fetch(f"{server.url}/zoo/file.bin", tmp_path).read_bytes() == CONTENT


LOCATIONS = [
    None, "", "file:///etc/passwd", "ftp://127.0.0.1/file.bin", "data:text/plain,x", "gopher://x/", "http://[bad",
    "http://127.0.0.1:port/", "http://127.0.0.1 b/", "//", "/zoo/file.bin", "javascript:alert(1)", "http:///file.bin",
    "http://\x01/",
]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "location"),
    [*((302, location) for location in LOCATIONS), *((status, LOCATIONS[2]) for status in (301, 303, 307, 308))],
)
def test_redirects_that_lead_nowhere(status: int, location: str | None, server: Server, tmp_path: Path) -> None:
    headers = {} if location is None else {"Location": location}
    server.answers["/zoo/file.bin"] = (status, headers, b"")
    with pytest.raises(InputError, match=r"redirect|cannot be reached|is no safe|answers 40|interrupted") as error:
        fetch(f"{server.url}/zoo/file.bin", tmp_path)
    assert "\n" not in str(error.value)
    assert names(tmp_path) == []


def test_a_redirect_to_another_path_is_followed(server: Server, tmp_path: Path) -> None:
    server.answers["/a.bin"] = (302, {"Location": "/b"}, b"")
    server.answers["/b"] = (307, {"Location": f"{server.url}/zoo/file.bin"}, b"")
    assert fetch(f"{server.url}/a.bin", tmp_path).read_bytes() == CONTENT
    assert names(tmp_path) == ["a.bin", "a.bin.sha256"]


def test_https_is_not_left_for_http() -> None:
    request = download.urllib.request.Request("https://a.example/m.pth")
    handler = download._Redirects()
    with pytest.raises(InputError, match="no safe address"):
        handler.redirect_request(request, None, 302, "", {}, "http://a.example/m.pth")
    assert handler.redirect_request(request, None, 302, "", {}, "https://b.example/m.pth") is not None


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a/b", "http://a/", "http://a/x/..", "/etc/passwd"])
def test_only_files_on_the_web_are_fetched(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="url must be of a file on the web"):
        fetch(url, tmp_path)


@pytest.mark.parametrize("mirror", ["mirror", "http://", "file:///srv", "http://[bad", "https:///path"])
def test_a_mirror_that_is_no_address(mirror: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRCNN_MIRROR", mirror)
    with pytest.raises(InputError, match="PYRCNN_MIRROR must be"):
        download.mirrored("http://a/b")


# ---- the cache -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_file_in_the_cache_is_downloaded_again(
    name: str, server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.files[f"/{name}"] = WHOLE[name]
    file = fetch(f"{server.url}/{name}", tmp_path)
    record = tmp_path / f"{name}.sha256"
    for kind, content in damaged(name).items():
        for recorded in (True, False):  # as an older version did, which checked no format; or changed since
            file.write_bytes(content)
            if recorded:
                record.write_text(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
            caplog.clear()
            assert fetch(f"{server.url}/{name}", tmp_path).read_bytes() == WHOLE[name], kind
            assert str(file) in caplog.text
            assert names(tmp_path) == [name, f"{name}.sha256"]


def test_a_damaged_file_without_a_network_is_named_and_kept(server: Server, tmp_path: Path) -> None:
    file = fetch(f"{server.url}/zoo/file.bin", tmp_path)
    file.write_bytes(b"changed by hand")
    server.status = 404
    for _ in range(2):
        with pytest.raises(
            InputError, match=r"file\.bin has changed since .*; downloading it again failed: .*404"
        ) as e:
            fetch(f"{server.url}/zoo/file.bin", tmp_path)
        assert str(file) in str(e.value)
        assert file.read_bytes() == b"changed by hand"
    server.status = 0
    assert fetch(f"{server.url}/zoo/file.bin", tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"no checksum\n", b"0" * 64])
def test_a_damaged_record_heals(text: bytes, server: Server, tmp_path: Path) -> None:
    server.files["/m.pth"] = WHOLE["m.pth"]
    fetch(f"{server.url}/m.pth", tmp_path)
    (tmp_path / "m.pth.sha256").write_bytes(text)
    assert fetch(f"{server.url}/m.pth", tmp_path).read_bytes() == WHOLE["m.pth"]
    first, *_ = (tmp_path / "m.pth.sha256").read_text().split()
    assert first == hashlib.sha256(WHOLE["m.pth"]).hexdigest()


def test_a_file_copied_into_the_cache_is_checked_and_used(server: Server, tmp_path: Path) -> None:
    (tmp_path / "m.tar.gz").write_bytes(WHOLE["m.tar.gz"])
    assert fetch(f"{server.url}/m.tar.gz", tmp_path) == tmp_path / "m.tar.gz"
    assert server.ranges == []
    assert names(tmp_path) == ["m.tar.gz", "m.tar.gz.sha256"]


def test_a_user_without_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("PYRCNN_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", unknown)
    with pytest.raises(InputError, match="PYRCNN_CACHE must be a folder"):
        download.cache_folder()
    monkeypatch.setenv("PYRCNN_CACHE", "~nobody-has-this-name/cache")
    with pytest.raises(InputError, match=r"PYRCNN_CACHE must be a folder.*nobody-has-this-name"):
        download.cache_folder()


def test_a_cache_that_may_only_be_read(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.pkl").write_bytes(WHOLE["m.pkl"])

    def refuse(*_: object, **__: object) -> None:
        raise InputError("path: Read-only file system")

    monkeypatch.setattr(download, "replacing", refuse)
    assert fetch(f"{server.url}/m.pkl", tmp_path) == tmp_path / "m.pkl"
    assert names(tmp_path) == ["m.pkl"]


def test_a_full_disk_is_one_line(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with no_file_larger_than(50_000), pytest.raises(InputError, match=f"the cache {tmp_path} cannot be used: File too"):
        fetch(f"{server.url}/zoo/file.bin", tmp_path)
    assert "file.bin" not in names(tmp_path)
    server.files["/zoo/other.bin"] = CONTENT
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(InputError, match=r"needs 1 MB, .* has 0 MB left"):
        fetch(f"{server.url}/zoo/other.bin", tmp_path)
    monkeypatch.undo()
    assert fetch(f"{server.url}/zoo/file.bin", tmp_path).read_bytes() == CONTENT  # resumed


def test_a_pickle_is_checked_without_running_it(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(marker),)

    (tmp_path / "m.pkl").write_bytes(pickle.dumps(Evil()))
    integrity.problem(tmp_path / "m.pkl", "m.pkl")
    assert not marker.exists()
    (tmp_path / "lie.pkl").write_bytes(b"\x80\x04\x8e" + (2**60).to_bytes(8, "little") + b"x.")
    assert "cut short" in str(integrity.problem(tmp_path / "lie.pkl", "lie.pkl"))


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(100_000_000))
    assert "times its size" in str(integrity.problem(tmp_path / "m.pth", "m.pth"))
