"""Writes files that are either complete or absent, and that replace nothing unless the caller asks for it.

The rule for every output of this package: a file that the run reads is never replaced. Any other file that exists is
replaced only if the caller asks: with ``--overwrite`` on the command line, with ``overwrite=True`` in
:class:`pyrcnn.train.TrainConfig`. A Python function whose argument is the file itself, such as ``checkpoints.save``,
replaces it as ``torch.save`` does, and refuses with ``overwrite=False``. :func:`check_outputs` applies the rule before
the work, :func:`replacing` again when the file is written.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from .errors import InputError, require

_WORKPLACE = re.compile(r"\.pyrcnn-\d+-\w+\.part")  # the folder of one file being written, with the writer's process id
_LOCK = ".pyrcnn.lock"  # in that folder, locked by the writer: whoever gets the lock knows that the writer is gone
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")  # how libraries in Rust print an errno
_PROBE = 1 << 20  # bytes that a disk must take to be no reason of a failure
_swept: set[Path] = set()  # folders whose orphans this process has removed


def check_outputs(
    paths: Iterable[str | Path], argument: str, *, overwrite: bool = False, inputs: Iterable[str | Path] = ()
) -> None:
    """Raise :class:`pyrcnn.InputError` unless all of ``paths`` may and can be written: before work is done for them.

    Args:
        paths: files to write. Missing folders are fine, :func:`replacing` creates them.
        argument: the name of the argument, with which the message begins.
        overwrite: whether files that exist are replaced.
        inputs: files that the run reads; they are not replaced, whatever ``overwrite`` says.

    Example:
        >>> check_outputs(["runs/first/last.safetensors"], "out")
    """
    read = {_identity(Path(path)) for path in inputs} - {None}
    folders = set()
    for path in map(Path, paths):
        try:
            os.lstat(path)
            present = True
        except (FileNotFoundError, NotADirectoryError):
            present = False
        except (OSError, ValueError) as error:
            raise InputError(f"{argument}: {path} cannot be written: {_reason(error)}") from None
        require(not os.path.isdir(path), f"{argument} must be a file, got the folder {path}")
        special = os.path.exists(path) and not os.path.isfile(path)
        require(not special, f"{argument} must be a regular file, got the device or pipe {path}")
        require(not present or _identity(path) not in read, f"{argument}: {path} is also read; write to another file")
        require(overwrite or not present, _taken(path, argument))
        folders.add(path.parent)
        _check_name_lengths(path, argument)
    for folder in folders:
        check_folder(folder, argument)


def check_folder(folder: str | Path, argument: str) -> None:
    """Raise :class:`pyrcnn.InputError` unless files can be created in ``folder``, or the folder itself can."""
    folder = Path(folder)
    existing = _nearest(folder)
    require(existing.is_dir(), f"{argument}: the folder {folder} cannot be used: {existing} is no folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        read_only = os.statvfs(existing).f_flag & os.ST_RDONLY
        reason = os.strerror(errno.EROFS if read_only else errno.EACCES)
        raise InputError(f"{argument}: the folder {folder} cannot be written to: {reason}")


@contextlib.contextmanager
def replacing(
    path: str | Path, *, argument: str = "path", overwrite: bool = True, flush: bool = True
) -> Iterator[Path]:
    """``with replacing(path) as temporary:`` write the file ``temporary``; when the block ends it becomes ``path``.

    If the process stops, ``path`` holds its old content or all of the new content. With ``flush`` that is also true
    if the machine stops. An error inside the block leaves ``path`` alone. A missing folder is created. Several threads
    and processes may write one path at a time: the last one remains. Without ``overwrite``, a file that exists, or has
    come into being meanwhile, is left alone. If ``path`` is a link, the file that it names is replaced.

    ``temporary`` has the name of ``path`` and lies in a new folder beside it, ``.pyrcnn-PID-RANDOM.part``. What the
    block leaves there is removed, also after a killed process: by the next call for the same folder. The file gets the
    mode of the file that it replaces, else the one that the umask gives.

    Raises :class:`pyrcnn.InputError`, beginning with ``argument``, if the file may not or cannot be written: no
    permission, a full disk, a name that is too long.
    """
    check_outputs([path], argument, overwrite=overwrite)
    path = Path(os.path.realpath(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if flush or path.parent not in _swept:  # of many files, the first only
            _swept.add(path.parent)
            _remove_orphans(path.parent)
        with _workplace(path.parent) as place:
            temporary = place / path.name
            mode = _mode(path, temporary)
            with _system_errors(temporary):
                yield temporary
            if temporary.stat().st_mode & 0o777 != mode:  # some writers create files that only their owner may read
                with contextlib.suppress(PermissionError):  # of a file system without permissions
                    os.chmod(temporary, mode)
            if flush:
                _flush(temporary)
            if overwrite:
                os.replace(temporary, path)
            else:
                _publish_new(temporary, path, argument)
        if flush:
            _flush_folder(path.parent)  # makes the rename permanent
    except OSError as error:
        raise InputError(f"{argument}: {path} cannot be written: {_reason(error)}") from error


@contextlib.contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """A new folder in ``folder``, locked as long as it is used, and removed at the end."""
    while True:
        place = Path(tempfile.mkdtemp(prefix=f".pyrcnn-{os.getpid()}-", suffix=".part", dir=folder))
        try:
            lock = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except FileNotFoundError:  # another process has just taken it for an orphan
            continue
        except OSError:
            _discard(place)
            raise
        try:
            if _locked(lock) and os.path.exists(place / _LOCK):  # otherwise, likewise taken for an orphan
                yield place
                return
        finally:
            _discard(place)
            os.close(lock)


def _locked(lock: int) -> bool:
    """Lock the file unless another process or thread has. Where the file system has no locks, nobody has."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _remove_orphans(folder: Path) -> None:
    """Remove what killed processes left in ``folder``: the workplaces that nobody locks."""
    try:
        found = [folder / name for name in os.listdir(folder) if _WORKPLACE.fullmatch(name)]
    except OSError:
        return
    for place in found:
        try:
            lock = os.open(place / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:  # killed, or about to lock it, which a folder that has vanished does not disturb
            with contextlib.suppress(OSError):
                place.rmdir()
            continue
        except OSError:  # another user's, or no folder
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _discard(place)
        except OSError:
            continue  # its writer lives
        finally:
            os.close(lock)


def _discard(place: Path) -> None:
    """Remove a workplace, the lock last: without it, nobody could tell that the rest is an orphan."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(place)):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            elif entry.name != _LOCK:
                os.unlink(entry.path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(place / _LOCK)
        os.rmdir(place)


def _publish_new(temporary: Path, path: Path, argument: str) -> None:
    """Rename ``temporary`` to ``path`` unless that exists."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise InputError(_taken(path, argument)) from None
    except OSError:  # a file system without hard links
        require(not os.path.lexists(path), _taken(path, argument))
        os.replace(temporary, path)


def _mode(path: Path, temporary: Path) -> int:
    """The permissions of ``path``, or those that the umask gives to a new file."""
    try:
        return os.stat(path).st_mode & 0o777
    except FileNotFoundError:
        new = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            return os.fstat(new).st_mode & 0o777
        finally:
            os.close(new)
            os.unlink(temporary)


@contextlib.contextmanager
def _system_errors(temporary: Path) -> Iterator[None]:
    """Raise the ``OSError`` behind the errors of writers that do not tell it, such as ``torch.save`` on a full disk."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        told = _SYSTEM_ERROR.search(str(error))
        if told:
            raise OSError(int(told[1]), os.strerror(int(told[1]))) from error
        if isinstance(error, RuntimeError) and temporary.exists():
            with open(temporary, "ab") as file:  # raises if the file can grow no more
                file.write(bytes(_PROBE))
        raise


def _flush(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _flush_folder(folder: Path) -> None:
    try:
        _flush(folder)
    except OSError as error:
        # A folder that may be written to but not listed, or a file system that flushes no folders.
        if error.errno not in (errno.EACCES, errno.EINVAL, errno.ENOTSUP):
            raise


def _taken(path: Path, argument: str) -> str:
    return f"{argument}: {path} exists already: choose another name, or allow to overwrite it (--overwrite)"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _identity(path: Path) -> tuple[int, int] | None:
    """The file itself, whatever names it has; None if there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _check_name_lengths(path: Path, argument: str) -> None:
    """Refuse names that are too long in folders that are still missing, too: the system would only find them later."""
    longest = os.pathconf(_nearest(path.parent), "PC_NAME_MAX")
    for name in path.parts:
        length = len(os.fsencode(name))
        require(length <= longest, f"{argument}: {path} cannot be written: {os.strerror(errno.ENAMETOOLONG)}")


def _nearest(folder: Path) -> Path:
    """``folder``, or the closest folder above it that exists."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder
