"""Folder of a process for temporary files and semaphores that it shares with its child processes."""

from __future__ import annotations

import atexit
import contextlib
import functools
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "gpt2-processes-"
_SEMAPHORES = Path("/dev/shm")


@functools.cache
def process_folder() -> Path:
    """Create the folder of this process for temporary files of its children; it is removed at exit.

    Semaphores of `multiprocessing` are named after it; child processes use that of their parent. After a kill, both
    remain until `remove_abandoned`.
    """
    if sys.platform != "linux":
        return Path(tempfile.gettempdir())
    # Private, and without a public equivalent; the names have been the same since Python 3.4.
    settings = multiprocessing.current_process()._config  # type: ignore[attr-defined]  # see above
    if multiprocessing.parent_process() is not None and "tempdir" in settings:
        return Path(settings["tempdir"])
    with _locked_parent():
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        try:
            _lock(folder)
        except OSError:
            folder.rmdir()
            raise
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    settings.update(semprefix=f"/{folder.name}", tempdir=str(folder))
    return folder


def remove_abandoned() -> None:
    """Remove the folders and semaphores of killed processes: no process holds the lock of these folders."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError), _locked_parent():
            abandoned = [folder for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*") if _lock(folder)]
            for folder in abandoned:
                for semaphore in _SEMAPHORES.glob(f"sem.{folder.name}-*"):
                    semaphore.unlink(missing_ok=True)
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked_parent() -> Iterator[None]:
    """Lock the folder of all these folders, in which each is created and locked: none is seen without its lock.

    Where a file system has no locks, the folder is not locked.
    """
    import fcntl

    descriptor = os.open(tempfile.gettempdir(), os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _lock(folder: Path) -> bool:
    """Lock a folder until this process ends; return False if another process holds the lock."""
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    return True
