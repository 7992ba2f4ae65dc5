"""Files that are written whole or not at all, and that replace nothing unasked."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pyrcnn import InputError, checkpoints, models
from pyrcnn.atomic import check_outputs, replacing
from pyrcnn.train import state
from tests.conftest import python


def write(path: Path, content: str = "new", **options: Any) -> None:
    with replacing(path, **options) as temporary:
        temporary.write_text(content)


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return models.build("centernet_mobilenet_v2_fpn_512", num_classes=1, input_size=64)


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@contextlib.contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Writing fails beyond ``size`` bytes, as it does on a full disk; Python ignores the signal."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def writers(model: torch.nn.Module) -> dict[str, Any]:
    """Everything that writes a file, by the file's name."""
    return {
        "m.safetensors": lambda path: checkpoints.save(model, path),
        "checkpoint.pt": lambda path: state.write(path, {"identity": {}, "values": torch.zeros(100_000)}),
        "text.jsonl": lambda path: write(path, "x" * 100_000),
    }


WRITERS = ["m.safetensors", "checkpoint.pt", "text.jsonl"]


# ---- what is replaced ------------------------------------------------------------------------------------------------


def test_a_file_that_exists_is_replaced_only_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write(path, "first", overwrite=False)
    with pytest.raises(InputError, match=r"out: .*a\.txt exists already: .*--overwrite"):
        write(path, argument="out", overwrite=False)
    assert path.read_text() == "first"
    write(path, "second")
    assert path.read_text() == "second"


def write_late(path: Path) -> None:
    """Write ``path`` while another process creates it."""
    with replacing(path, overwrite=False) as temporary:
        temporary.write_text("mine")
        path.write_text("theirs")


def test_a_file_that_appears_meanwhile_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(InputError, match="exists already"):
        write_late(path)
    assert path.read_text() == "theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_system_without_hard_links(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    write(tmp_path / "a.txt", "one", overwrite=False)
    assert (tmp_path / "a.txt").read_text() == "one"
    with pytest.raises(InputError, match="exists already"):
        write_late(tmp_path / "b.txt")
    assert (tmp_path / "b.txt").read_text() == "theirs"


def test_inputs_are_never_replaced(tmp_path: Path) -> None:
    image, hard, link = tmp_path / "a.jpg", tmp_path / "hard.jpg", tmp_path / "link.jpg"
    image.write_text("pixels")
    os.link(image, hard)
    link.symlink_to(image)
    for name in ("a.jpg", "../" + tmp_path.name + "/a.jpg", "hard.jpg", "link.jpg"):
        with pytest.raises(InputError, match="is also read"):
            check_outputs([tmp_path / name], "out", overwrite=True, inputs=[image])
    check_outputs([tmp_path / "b.jpg"], "out", inputs=[image, tmp_path / "missing", "\0"])


def test_a_link_leads_to_the_file_that_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    target, link = tmp_path / "data/v1.txt", tmp_path / "latest.txt"
    target.write_text("old")
    link.symlink_to(target)
    write(link)
    assert link.is_symlink()
    assert target.read_text() == "new"
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="exists already"):
        write(tmp_path / "dangling", overwrite=False)


def test_only_regular_files_are_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "null").symlink_to("/dev/null")
    for name, message in (("pipe", "device or pipe"), ("null", "device or pipe"), ("folder", "got the folder")):
        with pytest.raises(InputError, match=message):
            write(tmp_path / name)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


# ---- permissions -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("name", WRITERS)
def test_the_umask_decides_the_permissions(name: str, model: torch.nn.Module, tmp_path: Path) -> None:
    path, save = tmp_path / name, writers(model)[name]
    for mask, mode in ((0o022, 0o644), (0o077, 0o600), (0o002, 0o664)):
        os.umask(mask)
        path.unlink(missing_ok=True)
        save(path)
        assert stat.S_IMODE(path.stat().st_mode) == mode
    path.chmod(0o640)
    save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


# ---- several writers, killed writers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WRITERS)
def test_threads_that_write_one_path_all_succeed(name: str, model: torch.nn.Module, tmp_path: Path) -> None:
    path, save = tmp_path / name, writers(model)[name]
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                save(path)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [p.name for p in tmp_path.iterdir()] == [name]


STUCK = """
import os, time
from pathlib import Path
from pyrcnn.atomic import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    (temporary.parent / "more").mkdir()
    (temporary.parent / "more" / "weights").write_text("data beside it")
    print(temporary.parent, flush=True)
    time.sleep(60)
"""


def test_orphans_of_killed_processes_are_removed_and_no_others(tmp_path: Path) -> None:
    command, folder = python(STUCK, tmp_path / "a.txt")
    killed, alive = (subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) for _ in range(2))
    try:
        orphan, used = (Path(process.stdout.readline().strip()) for process in (killed, alive))  # type: ignore
        assert orphan.parent == used.parent == tmp_path
        killed.kill()
        killed.wait()
        foreign = [tmp_path / name for name in (".pyrcnn-1.part", "pyrcnn-1-x.part", ".pyrcnn-1-x.part.txt")]
        for path in foreign:
            path.mkdir()
        (tmp_path / ".pyrcnn-12-users_own.part").mkdir()
        (tmp_path / ".pyrcnn-12-users_own.part/notes.txt").write_text("no lock: not ours")
        (tmp_path / ".pyrcnn-13-empty.part").mkdir()  # killed before it could lock it
        write(tmp_path / "b.txt")
        assert not orphan.exists()
        assert not (tmp_path / ".pyrcnn-13-empty.part").exists()
        assert used.exists()
        assert all(path.exists() for path in foreign)
        assert (tmp_path / ".pyrcnn-12-users_own.part/notes.txt").exists()
    finally:
        alive.kill()
        alive.wait()
    write(tmp_path / "b.txt")
    assert not used.exists()
    assert not (tmp_path / "a.txt").exists()


def test_many_small_files_list_their_folder_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    listed = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or listdir(path))
    for number in range(10):
        write(tmp_path / f"{number}.txt", flush=False)
    assert len(listed) == 1


INTERRUPTED = """
import signal, torch
from pathlib import Path
from pyrcnn.train.state import write
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell
path = Path(sys.argv[1])
print("ready", flush=True)
while True:
    write(path, {"identity": {}, "values": torch.zeros(1_000_000)})
"""


def test_ctrl_c_while_writing_leaves_whole_files_only(tmp_path: Path) -> None:
    for pause in (0.01, 0.05):
        command, folder = python(INTERRUPTED, tmp_path / "checkpoint.pt")
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(pause)
        process.send_signal(signal.SIGINT)
        process.wait(60)
        process.stdout.close()
        write(tmp_path / "other.txt")
        assert {p.name for p in tmp_path.iterdir()} <= {"checkpoint.pt", "other.txt"}
        if (tmp_path / "checkpoint.pt").exists():
            assert torch.load(tmp_path / "checkpoint.pt")["values"].numel() == 1_000_000
