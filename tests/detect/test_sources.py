"""Folders, patterns and lists: which files are read, which are skipped with a line, and where their copies lie."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePath

import pytest
from PIL import Image

from pyrcnn import InputError
from pyrcnn.commands.detect.sources import Source, find
from tests.test_cli import run


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), "red").save(path)
    return path


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.jpg", "a/x.jpg", "a/deep/x.png", "c/x.jpg", ".cache/x.jpg"):
        image(tmp_path / "pics" / name)
    (tmp_path / "pics/a/notes.md").write_text("no image")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "pics"


def names(*given: object, out: Path | None = None) -> list[str]:
    return [str(source.path) for source in find([Path(str(one)) for one in given], out)[0]]


def test_a_folder_is_searched_with_its_subfolders(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources, failures = find([Path("pics")])
    assert [(str(s.path), s.place) for s in sources] == [
        ("pics/b.jpg", PurePath()),
        ("pics/a/x.jpg", PurePath("a")),
        ("pics/a/deep/x.png", PurePath("a/deep")),
        ("pics/c/x.jpg", PurePath("c")),
    ]
    assert not failures
    assert capsys.readouterr().err == "pyrcnn: pics: skipped 1 that is no image or video by name\n"


def test_links_to_folders_are_followed_once(tree: Path) -> None:
    (tree / "z").symlink_to(tree)
    (tree / "a/other").symlink_to(tree.parent / "elsewhere")
    image(tree.parent / "elsewhere/y.jpg")
    assert names("pics") == ["pics/b.jpg", "pics/a/x.jpg", "pics/a/deep/x.png", "pics/a/other/y.jpg", "pics/c/x.jpg"]


def test_copies_of_earlier_runs_are_not_read(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image(tree / "pyrcnn-detections/b.jpg")
    image(tree / "pyrcnn-detections-12/b.jpg")
    image(tree / "marked/b.jpg")
    assert names("pics", out=tree / "marked") == names("pics/b.jpg", "pics/a", "pics/c")
    assert capsys.readouterr().err.count("annotated copies of an earlier run") == 2
    assert names("pics/marked", out=tree / "marked") == ["pics/marked/b.jpg"]  # asked for by name


def test_an_unreadable_subfolder_is_named_and_the_others_are_done(tree: Path, monkeypatch) -> None:
    listing = Path.iterdir

    def refusing(folder: Path) -> Iterator[Path]:
        if folder.name == "a":  # root may read every folder
            raise PermissionError(13, "Permission denied")
        return listing(folder)

    monkeypatch.setattr(Path, "iterdir", refusing)
    sources, failures = find([Path("pics")])
    assert [s.path.name for s in sources] == ["b.jpg", "x.jpg"]
    assert failures == ["cannot read pics/a: Permission denied"]


def test_patterns(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert names("pics/*.jpg") == ["pics/b.jpg"]
    sources, _ = find([Path("pics/**/x.*")])
    assert [(str(s.path), s.place) for s in sources] == [
        ("pics/a/deep/x.png", PurePath("a/deep")),
        ("pics/a/x.jpg", PurePath("a")),
        ("pics/c/x.jpg", PurePath("c")),
    ]
    capsys.readouterr()
    assert names("pics/a/*") == ["pics/a/x.jpg"]
    assert capsys.readouterr().err == "pyrcnn: pics/a/*: skipped 1 that is no image or video by name\n"
    with pytest.raises(InputError, match=r"no image or video matches: pics/\*\.tif"):
        names("pics/*.tif")
    image(tree / "[1].jpg")  # a file that exists is no pattern
    assert names("pics/[1].jpg") == ["pics/[1].jpg"]


def test_lists(tree: Path) -> None:
    (tree / "list.txt").write_text("pics/b.jpg\n\n  a/x.jpg  \nlost.jpg\nc\na/**/*.png\n")
    sources, failures = find([Path("pics/list.txt")])
    assert [str(s.path) for s in sources] == ["pics/b.jpg", "pics/a/x.jpg", "pics/c/x.jpg", "pics/a/deep/x.png"]
    assert failures == ["no such file or folder: lost.jpg (line 4 of pics/list.txt)"]
    (tree / "names").write_text("b.jpg")
    assert names("@pics/names") == ["pics/b.jpg"]
    image(tree / "@b.jpg")
    assert names(tree / "@b.jpg") == [str(tree / "@b.jpg")]
    (tree / "empty.txt").write_text("\n")
    for given, message in (
        ("pics/none.txt", "cannot read the list pics/none.txt: No such file or directory"),
        ("pics/empty.txt", "the list is empty: pics/empty.txt"),
    ):
        with pytest.raises(InputError, match=message):
            names(given)
    (tree / "odd.txt").write_bytes(b"b.jpg\nx\0y.jpg\n\xff.jpg\n")
    sources, failures = find([Path("pics/odd.txt")])
    assert [s.path.name for s in sources] == ["b.jpg"]
    assert len(failures) == 2


def test_copies_lie_in_subfolders_like_their_images(tree: Path, monkeypatch, capsys, weights: str) -> None:
    image(tree.parent / "more/a/x.jpg")
    arguments = ("detect", "pics", "more", "pics/*.jpg", "--weights", weights, "--out", "out")
    assert run(monkeypatch, *arguments, "--json") == 0
    copies = [entry["annotated"] for entry in json.loads(capsys.readouterr().out)]
    assert copies == [f"out/{name}" for name in ("b.jpg", "a/x.jpg", "a/deep/x.jpg", "c/x.jpg", "a/x-2.jpg", "b-2.jpg")]
    assert all(Path(copy).is_file() for copy in copies)
    before = {copy: Path(copy).read_bytes() for copy in copies}
    assert run(monkeypatch, *arguments) == 2
    assert "out/b.jpg exists already" in capsys.readouterr().err
    assert before == {copy: Path(copy).read_bytes() for copy in copies}
    assert Source(Path("pics/a/x.jpg"), PurePath("a")).name == "a/x.jpg"
