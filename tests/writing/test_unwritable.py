"""Full disks, missing permissions and impossible names: one line, and nothing half-written."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pyrcnn import InputError, deploy
from pyrcnn.atomic import check_folder, check_outputs, replacing
from tests.conftest import python
from tests.deploy.small import small
from tests.writing.test_atomic import WRITERS, model, no_file_larger_than, write, writers

__all__ = ["model"]  # the fixture


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_line_and_leaves_the_old_file(name: str, model: torch.nn.Module, tmp_path: Path) -> None:
    path, save = tmp_path / name, writers(model)[name]
    save(path)
    before = path.read_bytes()
    with no_file_larger_than(50_000), pytest.raises(InputError, match="cannot be written: File too large") as error:
        save(path)
    assert "\n" not in str(error.value)
    assert path.name in str(error.value)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_an_export_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    with no_file_larger_than(50_000), pytest.raises(InputError, match=r"path: .*m\.pt2 cannot be written: File too"):
        deploy.export(small("centernet_mobilenet_v2_fpn_512"), path, size=(64, 64))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_errors_of_the_disk_when_the_file_is_flushed(
    number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "a.txt").write_text("old")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(InputError, match=os.strerror(number)):
        write(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_file_systems_without_permissions_and_flushes_of_folders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    flush = os.fsync

    def files_only(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        flush(file)

    monkeypatch.setattr(os, "chmod", refuse)
    monkeypatch.setattr(os, "fsync", files_only)
    (tmp_path / "a.txt").touch(0o600)
    write(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyError("a bug"), KeyboardInterrupt(), InputError("no")])
def test_other_errors_stay_what_they_are(error: BaseException, tmp_path: Path) -> None:
    def fail() -> None:
        with replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)) as raised:
        fail()
    assert raised.value is error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x" * 300, "File name too long"),
        ("missing/" + "x" * 300 + "/a.txt", "File name too long"),
        ("é" * 130, "File name too long"),
        ("a\0b", "null"),
        ("file/a.txt", "file is no folder"),
    ],
)
def test_names_that_cannot_be_are_refused_before_the_work(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=rf"^out: .*{reason}"):
        check_outputs([tmp_path / name], "out")
    with pytest.raises(InputError, match=rf"^out: .*{reason}"):
        write(tmp_path / name, argument="out")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match=r"loop cannot be written: Too many levels"):
        write(tmp_path / "loop")
    assert [p.name for p in tmp_path.iterdir()] == ["loop"]


def test_the_longest_names_can_be_written(tmp_path: Path) -> None:
    for name in ("x" * 251 + ".txt", "." + "y" * 254):
        write(tmp_path / name)
        assert (tmp_path / name).read_text() == "new"


READ_ONLY = """
import os
from pathlib import Path
from pyrcnn import InputError
from pyrcnn.atomic import check_folder, replacing
os.setuid(65534) if os.getuid() == 0 else None
for call in (lambda: check_folder(sys.argv[1], "out"), lambda: replacing(Path(sys.argv[1]) / "a").__enter__()):
    try:
        call()
    except InputError as error:
        print(error)
"""


def test_a_folder_without_permission() -> None:
    with tempfile.TemporaryDirectory() as given:  # tmp_path lies in a folder that only its owner may enter
        os.chmod(given, 0o555)
        command, folder = python(READ_ONLY, given)
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert ran.stdout.splitlines() == [
        f"{argument}: the folder {given} cannot be written to: Permission denied" for argument in ("out", "path")
    ], ran.stderr


def test_a_read_only_file_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not every machine has one: the system's answers are those that it gives for one."""
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_flag=os.ST_RDONLY))
    for folder in (tmp_path, tmp_path / "new"):
        with pytest.raises(InputError, match=f"out: the folder {folder} cannot be written to: Read-only file system"):
            check_folder(folder, "out")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "save", [lambda path: torch.save(torch.zeros(100_000), path), lambda path: path.write_bytes(bytes(10_000))]
)
def test_no_space_left_even_where_the_writer_hides_it(save: Any, tmp_path: Path) -> None:
    def fill() -> None:
        with replacing(tmp_path / "a.bin") as temporary:
            temporary.symlink_to("/dev/full")
            save(temporary)

    with pytest.raises(InputError, match="No space left on device"):
        fill()
    assert list(tmp_path.iterdir()) == []
