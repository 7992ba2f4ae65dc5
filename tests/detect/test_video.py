"""Videos: frames, times, orientation, damage, annotated videos; they need PyAV."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyrcnn import InputError, images, inference
from pyrcnn.commands.detect.sources import Source, find, items
from pyrcnn.images import video
from tests.conftest import python
from tests.test_cli import run

av = pytest.importorskip("av")
SIZE = (48, 64)  # height and width


def made(path: Path, count: int = 10, size: tuple[int, int] = SIZE, start: float = 0.0) -> Path:
    """A video of 25 frames per second whose frame n is grey, 10 * n, with a white upper left quarter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, options={"qscale": "2"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for n in range(count):
            pixels = np.full((*size, 3), 10 * (n % 20), np.uint8)
            pixels[: size[0] // 2, : size[1] // 2] = 255
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = n + round(25 * start), Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_frames_have_numbers_times_and_pixels(tmp_path: Path) -> None:
    for suffix in ("mp4", "avi", "mkv", "mov"):
        file = made(tmp_path / f"a.{suffix}")
        found = list(video.frames(file))
        assert [frame.number for frame in found] == list(range(10))
        assert [frame.time for frame in found] == pytest.approx([n / 25 for n in range(10)], abs=2e-3)
        for frame in found:
            pixels = frame.read()
            assert (pixels.shape, pixels.dtype) == ((3, *SIZE), torch.uint8)
            assert abs(int(pixels[0, 40, 50]) - 10 * frame.number) < 8
            assert int(pixels[:, 5, 5].min()) > 240
        assert [frame.number for frame in video.frames(file, every=4)] == [0, 4, 8]
        assert abs(video.count(file) - 10) <= 1
    late = list(video.frames(made(tmp_path / "late.mkv", start=3.0)))
    assert late[5].time == pytest.approx(0.2, abs=2e-3)
    with pytest.raises(InputError, match="every must be a positive integer, got 0"):
        next(video.frames(file, every=0))


def test_a_turned_video_is_upright(tmp_path: Path) -> None:
    """As phones write them: the pixels lie on their side, and the file says so."""
    plain = made(tmp_path / "a.mp4").read_bytes()
    identity = b"".join(n.to_bytes(4, "big") for n in (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30))
    # 90 degrees clockwise when shown, as in ISO/IEC 14496-12's matrix of the track
    turned = b"".join(
        (n % (1 << 32)).to_bytes(4, "big") for n in (0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    )
    at = plain.rindex(identity)
    (tmp_path / "turned.mp4").write_bytes(plain[:at] + turned + plain[at + len(identity) :])
    upright, shown = (next(video.frames(tmp_path / name)).read() for name in ("a.mp4", "turned.mp4"))
    assert torch.equal(shown, torch.rot90(upright, -1, (1, 2)))
    assert int(shown[:, 5, -5].min()) > 240  # the white corner is now at the right


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no video", "not a video that can be read"),
        (b"", "not a video that can be read"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", "not a video"),
        (b"ffconcat version 1.0\nfile a.mp4\n", "not a video that can be read"),
    ],
)
def test_other_files_and_playlists_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    made(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_bytes(content)
    with pytest.raises(images.ImageError, match=rf"b\.mp4: the file is {reason}"):
        list(video.frames(tmp_path / "b.mp4"))


def test_files_without_frames_pipes_and_large_frames_are_refused(tmp_path: Path, monkeypatch) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    os.mkfifo(tmp_path / "pipe.mp4")
    for name, reason in (("sound.mp4", "holds no video"), ("pipe.mp4", "it is a pipe"), ("lost.mp4", "is missing")):
        with pytest.raises(images.ImageError, match=reason):
            list(video.frames(tmp_path / name))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(images.ImageError, match="too large: it has 64x48 pixels, the limit is 1000"):
        list(video.frames(made(tmp_path / "a.mp4")))


def test_without_pyav_one_line_says_what_to_install(monkeypatch, capsys, tmp_path: Path) -> None:
    file = made(tmp_path / "a.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    assert run(monkeypatch, "detect", file) == 2
    missing = "reading videos needs av: pip install av"
    assert capsys.readouterr().err == f"pyrcnn: {missing}\n"
    Image.new("RGB", (40, 30)).save(tmp_path / "b.png")
    sources, failures = find([tmp_path])
    assert [source.path.name for source in sources] == ["b.png"]
    assert failures == [f"left out 1 of the files, which are videos: {missing}"]


def test_detect_writes_a_video_and_frames(monkeypatch, capsys, tmp_path: Path, weights: str) -> None:
    file = made(tmp_path / "pics/sub/a.mp4", size=(47 + 1, 64))
    Image.new("RGB", (40, 30)).save(tmp_path / "pics/b.png")
    arguments = ("detect", tmp_path / "pics", "--weights", weights, "--score", 0, "--out", tmp_path / "out")
    assert run(monkeypatch, *arguments, "--every", 3, "--format", "jsonl") == 0
    shown = capsys.readouterr()
    entries = [json.loads(line) for line in shown.out.splitlines()]
    assert [(Path(e["image"]).name, e.get("frame")) for e in entries] == [
        ("b.png", None),
        *(("a.mp4", n) for n in (0, 3, 6, 9)),
    ]
    assert [e["time"] for e in entries[1:]] == pytest.approx([0, 0.12, 0.24, 0.36], abs=1e-3)
    copy = tmp_path / "out/sub/a.mp4"
    assert {e["annotated"] for e in entries[1:]} == {str(copy)}
    assert f"annotated video: {copy}" in shown.err
    written = list(video.frames(copy))
    assert [frame.time for frame in written] == pytest.approx([0, 0.12, 0.24, 0.36], abs=1e-3)
    first = next(video.frames(file)).read()
    assert written[0].read().shape == first.shape
    assert not torch.equal(written[0].read(), first)
    assert run(monkeypatch, *arguments) == 2  # never replaced unless asked
    assert "exists already" in capsys.readouterr().err
    assert run(monkeypatch, *arguments, "--overwrite", "--every", 5) == 0
    assert "a.mp4 frame 5 at 0.20 s: " in capsys.readouterr().out
    assert len(list(video.frames(copy))) == 2
    assert sorted(p.name for p in (tmp_path / "out").rglob("*")) == ["a.mp4", "b.jpg", "sub"]


def test_a_video_is_not_written_over_itself(monkeypatch, capsys, tmp_path: Path, weights: str) -> None:
    file = made(tmp_path / "a.mp4")
    before = file.read_bytes()
    assert run(monkeypatch, "detect", file, "--weights", weights, "--out", tmp_path, "--overwrite") == 2
    assert "is also read" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_a_damaged_video_does_not_stop_the_others(monkeypatch, capsys, tmp_path: Path, weights: str) -> None:
    (tmp_path / "b.mp4").write_text("no video")
    made(tmp_path / "a.mp4")
    made(tmp_path / "c.avi")
    arguments = ("detect", tmp_path, "--weights", weights, "--out", tmp_path / "out", "--every", 5)
    assert run(monkeypatch, *arguments, "--format", "jsonl") == 1
    shown = capsys.readouterr()
    assert [Path(json.loads(line)["image"]).name for line in shown.out.splitlines()] == ["a.mp4"] * 2 + ["c.avi"] * 2
    assert sum("b.mp4" in line for line in shown.err.splitlines()) == 1
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.mp4", "c.mp4"]


def test_an_error_in_the_middle_ends_the_video_with_the_frames_before(tmp_path: Path, monkeypatch) -> None:
    file = made(tmp_path / "a.mp4")

    def breaking(path: object, decoded: object) -> object:
        for number, frame in enumerate(decoded):  # type: ignore[arg-type,var-annotated]
            if number == 4:
                raise images.ImageError(file, "the video is damaged (test)")
            yield frame

    monkeypatch.setattr(video, "_errors_of", breaking)
    seen = []
    with pytest.raises(images.ImageError, match="damaged"):
        seen.extend(video.frames(file))
    assert [frame.number for frame in seen][:1] == [0] or not seen  # extend keeps none where it fails
    found = list(items([Source(file), Source(file)], 1))
    assert [item.frame.number if item.frame else None for item in found] == [0, 1, 2, 3, None] * 2


def test_frames_are_read_as_they_are_needed(tmp_path: Path, monkeypatch) -> None:
    """A long video takes no more memory than a short one."""
    from tests.images.test_detect import Finds

    file = made(tmp_path / "a.mp4", count=100)
    seen = []
    decode = video._errors_of
    monkeypatch.setattr(video, "_errors_of", lambda path, frames: (seen.append(1) or f for f in decode(path, frames)))
    steps = inference.detect(Finds(), items([Source(file)], 1), lambda item: item.read())
    next(steps)
    assert len(seen) <= 4 + 8 + 2
    assert len(list(steps)) == 99


def test_odd_sizes_are_written(tmp_path: Path) -> None:
    with video.VideoWriter(tmp_path / "a.mp4", (31, 33)) as writer:
        for n in range(3):
            writer.write(Image.new("RGB", (33, 31), "red"), n / 10)
        writer.write(Image.new("RGB", (20, 10), "red"), 0.3)  # frames of another size are scaled
    found = list(video.frames(tmp_path / "a.mp4"))
    assert [tuple(frame.read().shape) for frame in found] == [(3, 32, 34)] * 4
    assert [frame.time for frame in found] == pytest.approx([0, 0.1, 0.2, 0.3])


def test_an_interrupted_run_leaves_no_video(tmp_path: Path) -> None:
    file, out = made(tmp_path / "a.mp4", count=3000), tmp_path / "out"
    command, working = python(
        "from pyrcnn import cli; cli.main()", "detect", file, "--out", out, "--threads", 1, "--plain"
    )
    process = subprocess.Popen(command, cwd=working, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not (out.exists() and list(out.glob(".pyrcnn-*/a.mp4"))):
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT)
    assert b"Traceback" not in errors
    assert list(out.iterdir()) == []


def test_a_closed_pipe_is_not_an_error_of_the_video(tmp_path: Path, weights: str) -> None:
    file = made(tmp_path / "a.mp4", count=50)
    options = ("detect", file, "--weights", weights, "--out", tmp_path / "out", "--score", 0)
    command, working = python("from pyrcnn import cli; cli.main()", *options)
    process = subprocess.Popen(command, cwd=working, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 1
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert list((tmp_path / "out").iterdir()) == []
