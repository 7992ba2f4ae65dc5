"""Downloads against a local server: resumed, checked, whole or not there, and one line when they fail."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from pyrcnn import InputError, checkpoints, models
from pyrcnn.checkpoints import download, zoo
from pyrcnn.checkpoints.download import fetch
from tests.checkpoints.test_tensorflow import write_checkpoint, zoo_archive
from tests.test_cli import run

CONTENT = bytes(range(256)) * 4000  # about a megabyte


class Server(ThreadingHTTPServer):
    """Serves ``files`` with ranges; ``cut``: bytes after which each of the next answers breaks off."""

    daemon_threads = True

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"/zoo/file.bin": CONTENT}
        self.tag = '"first"'
        self.cut: list[int] = []
        self.ranges: list[str | None] = []
        self.status = 0
        self.lie = 0  # bytes promised beyond those sent
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}  # path → status, headers, body, as they are
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        server.ranges.append(self.headers.get("Range"))
        if self.path in server.answers:
            status, headers, body = server.answers[self.path]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            return None
        content = server.files.get(self.path)
        if content is None or server.status:
            return self.send_error(server.status or 404)
        begin = 0
        if (asked := self.headers.get("Range")) and self.headers.get("If-Range") == server.tag:
            begin = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])  # type: ignore[index]
            if begin >= len(content):
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if server.tag:
            self.send_header("ETag", server.tag)
        self.send_header("Content-Length", str(len(content) - begin + server.lie))
        self.end_headers()
        end = begin + server.cut.pop(0) if server.cut else len(content)
        self.wfile.write(content[begin:end])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "PAUSE", 0.0)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    seen = []
    file = fetch(f"{server.url}/zoo/file.bin", tmp_path / "cache", lambda done, total: seen.append((done, total)))
    assert file.read_bytes() == CONTENT
    assert names(tmp_path / "cache") == ["file.bin", "file.bin.sha256"]
    assert (tmp_path / "cache/file.bin.sha256").read_text() == f"{hashlib.sha256(CONTENT).hexdigest()}  file.bin\n"
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    server.files.clear()
    assert fetch(f"{server.url}/zoo/file.bin", tmp_path / "cache") == file
    assert len(server.ranges) == 1


def test_an_interrupted_download_goes_on_where_it_broke_off(server: Server, tmp_path: Path) -> None:
    server.cut = [300_000, 200_000]
    file = fetch(f"{server.url}/zoo/file.bin", tmp_path)
    assert file.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-", "bytes=500000-"]


def test_another_call_goes_on_where_the_last_gave_up(server: Server, tmp_path: Path) -> None:
    server.cut = [300_000, *[0] * 10]
    with pytest.raises(InputError, match=r"interrupted after 300000 bytes .* repeat the command to resume") as error:
        fetch(f"{server.url}/zoo/file.bin", tmp_path)
    assert "\n" not in str(error.value)
    assert names(tmp_path) == ["file.bin.part", "file.bin.part.tag"]
    server.cut.clear()
    server.ranges.clear()
    assert fetch(f"{server.url}/zoo/file.bin", tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["bytes=300000-"]
    assert names(tmp_path) == ["file.bin", "file.bin.sha256"]


@pytest.mark.parametrize("tag", ['"second"', "", 'W/"weak"'])
def test_a_file_that_changed_meanwhile_is_begun_again(tag: str, server: Server, tmp_path: Path) -> None:
    server.cut = [300_000, *[0] * 10]
    with pytest.raises(InputError):
        fetch(f"{server.url}/zoo/file.bin", tmp_path)
    server.cut.clear()
    server.tag, server.files["/zoo/file.bin"] = tag, CONTENT[::-1]
    assert fetch(f"{server.url}/zoo/file.bin", tmp_path).read_bytes() == CONTENT[::-1]


def test_a_part_longer_than_the_file_is_begun_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"more")
    (tmp_path / "file.bin.part.tag").write_text(server.tag)
    assert fetch(f"{server.url}/zoo/file.bin", tmp_path).read_bytes() == CONTENT


def test_fewer_bytes_than_promised_are_no_file(server: Server, tmp_path: Path) -> None:
    server.lie = 100
    with pytest.raises(InputError, match=f"interrupted after {len(CONTENT)} bytes"):
        fetch(f"{server.url}/zoo/file.bin", tmp_path)
    assert "file.bin" not in names(tmp_path)


@pytest.mark.parametrize(("status", "message"), [(404, "answers 404"), (403, "answers 403"), (503, "answers 503")])
def test_what_the_server_refuses_is_said_in_one_line(status: int, message: str, server: Server, tmp_path: Path) -> None:
    server.status = status
    with pytest.raises(InputError, match=message) as error:
        fetch(f"{server.url}/zoo/file.bin", tmp_path)
    assert "\n" not in str(error.value)
    assert names(tmp_path) == []


def test_no_network_is_said_in_one_line(server: Server, tmp_path: Path) -> None:
    server.server_close()
    with pytest.raises(InputError, match=r"127\.0\.0\.1:\d+ cannot be reached"):
        fetch(f"{server.url}/zoo/file.bin", tmp_path)
    assert names(tmp_path) == []


def test_a_hash_in_the_name_must_be_the_files(server: Server, tmp_path: Path) -> None:
    good = f"model-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"
    server.files |= {f"/{good}": CONTENT, "/model-0123abcd.pth": CONTENT}
    assert fetch(f"{server.url}/{good}", tmp_path / "a").read_bytes() == CONTENT
    with pytest.raises(InputError, match=r"model-0123abcd\.pth is damaged: its SHA-256 begins with"):
        fetch(f"{server.url}/model-0123abcd.pth", tmp_path / "b")
    assert not (tmp_path / "b/model-0123abcd.pth").exists()


def test_two_at_a_time_download_once(server: Server, tmp_path: Path) -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(fetch(f"{server.url}/zoo/file.bin", tmp_path).read_bytes()))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT] * 4
    assert names(tmp_path) == ["file.bin", "file.bin.sha256"]
    assert len(server.ranges) == 1


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYRCNN_CACHE", str(tmp_path / "a"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert download.cache_folder() == tmp_path / "a"
    monkeypatch.delenv("PYRCNN_CACHE")
    assert download.cache_folder() == tmp_path / "b/pyrcnn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert download.cache_folder() == tmp_path / ".cache/pyrcnn"


def test_a_cache_that_cannot_be_written_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"the cache .*file/cache cannot be used"):
        fetch(f"{server.url}/zoo/file.bin", tmp_path / "file/cache")


# ---- the command line ------------------------------------------------------------------------------------------------

NAME = "centernet_mobilenet_v2_fpn_512"


@pytest.fixture
def zoo_server(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    """The zoo's archive of the MobileNet under the path at which it is published."""
    path = zoo.PUBLISHED[NAME].url.removeprefix("http://download.tensorflow.org")
    archive = zoo_archive(write_checkpoint(tmp_path / "tf", "mbv2_od"), tmp_path / "zoo.tar.gz")
    server.files[f"/mirror{path}"] = archive.read_bytes()
    monkeypatch.setenv("PYRCNN_MIRROR", f"{server.url}/mirror/")
    monkeypatch.setenv("PYRCNN_CACHE", str(tmp_path / "cache"))
    return server


def test_detect_with_the_zoos_weights(monkeypatch, capsys, zoo_server: Server, tmp_path: Path) -> None:
    arguments = ("detect", "--model", NAME, "--weights", "zoo", "--out", tmp_path / "out", "--score", 0.0, "--json")
    assert run(monkeypatch, *arguments) == 0
    online = capsys.readouterr()
    assert "downloading http://download.tensorflow.org/" in online.err
    (entry,) = json.loads(online.out)
    assert len(entry["detections"]) == 20
    zoo_server.files.clear()  # from here on without a network
    assert run(monkeypatch, *arguments, "--overwrite") == 0
    offline = capsys.readouterr()
    assert offline.err == ""
    assert json.loads(offline.out) == [entry]
    out = tmp_path / "converted.safetensors"
    assert run(monkeypatch, "convert", "zoo", out, "--model", NAME) == 0
    direct, _ = checkpoints.build(NAME, tmp_path / "tf")
    state = models.load(out).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in direct.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", NAME), "answers 404"),
        (("--model", "faster_rcnn_vgg16"), "has no published weights"),
        ((), "name it with --model"),
    ],
)
def test_what_the_zoo_has_not_is_one_line(
    arguments: tuple[str, ...], message: str, monkeypatch, capsys, zoo_server: Server, tmp_path: Path
) -> None:
    zoo_server.files.clear()
    assert run(monkeypatch, "detect", *arguments, "--weights", "zoo", "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_mirror_that_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRCNN_MIRROR", "mirror")
    with pytest.raises(InputError, match="PYRCNN_MIRROR must begin with"):
        download.mirrored("http://a/b")


def test_the_published_files_and_where_they_lie(monkeypatch, capsys) -> None:
    assert run(monkeypatch, "models", "--urls", "--json") == 0
    urls = json.loads(capsys.readouterr().out)
    assert urls == zoo.URLS
    assert set(urls) <= set(models.names())
    assert set(urls) >= {name for name in models.names() if name.startswith("centernet_")}
    assert len({url.rpartition("/")[2] for url in urls.values()}) == len(urls)  # they share one folder
    for name, entry in zoo.PUBLISHED.items():
        models.changed(models.PRESETS[name], **entry.changes)
    for preset in ("fpn", "c4"):  # what is changed for the deeper ones is what their kin are
        kin = models.PRESETS[f"faster_rcnn_resnet50_{preset}_detectron2"]
        changes = zoo.PUBLISHED[f"faster_rcnn_resnet101_{preset}"].changes
        same = models.changed(models.PRESETS[f"faster_rcnn_resnet50_{preset}"], num_classes=80, **changes)
        assert models.changed(same, rpn={"after_nms": kin.rpn.after_nms}) == kin
    assert run(monkeypatch, "models", "--urls") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [tuple(line.split()) for line in lines] == list(urls.items())
