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
    unlocked = Path(tempfile.mkdtemp(prefix="gpt2-"))
    try:
        _lock(unlocked)
        folder = unlocked.rename(unlocked.with_name(f"{_PREFIX}{unlocked.name.removeprefix('gpt2-')}"))
    except OSError:
        shutil.rmtree(unlocked, ignore_errors=True)
        raise
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    settings.update(semprefix=f"/{folder.name}", tempdir=str(folder))
    return folder


def remove_abandoned() -> None:
    """Remove the folders and semaphores of killed processes: no process holds the lock of these folders."""
    if sys.platform == "linux":
        for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):
                if _lock(left):
                    for semaphore in _SEMAPHORES.glob(f"sem.{left.name}-*"):
                        semaphore.unlink()
                    shutil.rmtree(left)


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
