"""Atomic writes: a file or folder is renamed once it is complete, so that readers see either the old or the new one."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = re.compile(r"\..+\.\d+(@[^@]+)?\.tmp")


def temporary_name(path: Path, kind: str = "tmp") -> Path:
    """Return a hidden path in the same folder that is unique to this process: `.NAME.PID@HOST.tmp`."""
    return path.with_name(f".{path.name}.{os.getpid()}@{socket.gethostname()}.{kind}")


@contextlib.contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path for a file or folder, which replaces `path` at the end.

    An exception leaves `path` unchanged. The replacement of a folder takes two renames: see `atomic_replace.recover`.

    Args:
        path: file or folder to create or replace.
        durable: whether to flush to disk; otherwise a power failure soon after may damage the content. Durable writes
            are rare enough to first remove what killed processes left of the same path, which lists its folder.

    Raises:
        OSError: if the path cannot be written, or is a device such as `/dev/null`, which is never replaced.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is a device or a pipe", str(path))
    if durable:
        remove_abandoned(path)
    temporary, old = temporary_name(path), temporary_name(path, "old")
    try:
        yield temporary
        if durable:
            for file in temporary.iterdir() if temporary.is_dir() else [temporary]:
                make_durable(file)
        if path.is_dir():
            path.rename(old)
        temporary.replace(path)
        if durable:
            _sync_folder(path.parent)
    except BaseException as error:
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(path)  # an error of writing to an open file does not name it
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    finally:
        with contextlib.suppress(OSError):
            remove(temporary)
        if path.exists():
            remove(old)


@contextlib.contextmanager
def open_binary(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file for writing, creating its folder if necessary; see `replacing`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, durable) as temporary, temporary.open("wb") as file:
        yield file


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """Write a text file; see `replacing`."""
    with open_binary(path, durable) as file:
        file.write(text.encode())


def remove_temporaries(folder: Path) -> None:
    """Remove what killed processes left in a folder that no other process writes to."""
    for file in folder.glob(".*.tmp"):
        if _TEMPORARY.fullmatch(file.name):
            remove(file)


def remove_abandoned(path: Path) -> None:
    """Remove temporary files and folders for `path` of processes of this host that have ended."""
    name = re.compile(rf"\.{re.escape(path.name)}\.(\d+)@{re.escape(socket.gethostname())}\.tmp")
    for file in path.parent.glob(".*.tmp"):
        if (match := name.fullmatch(file.name)) and _has_ended(int(match[1])):
            with contextlib.suppress(OSError):
                remove(file)


def _has_ended(pid: int) -> bool:
    """Whether no process has a process ID; False where this cannot be known."""
    if os.name != "posix":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # a process of another user
        return False
    return False


def make_durable(path: Path) -> None:
    """Flush a file to the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def remove(path: Path) -> None:
    """Remove a file or folder, if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, on systems that can flush a folder."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # unsupported by some network file systems
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
