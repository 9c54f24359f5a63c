"""Start of processes from a fork server, which imports all modules once; the imports take seconds."""

from __future__ import annotations

import atexit
import contextlib
import functools
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from gpt2_lightning.app.output.streams import guard_output

METHOD = "forkserver" if sys.platform == "linux" else "spawn"
"""Start method: Windows has no fork, and on macOS a fork may crash after these imports."""
_PRELOADED = (
    "gpt2_lightning.app.launch.launcher",
    "gpt2_lightning.app.commands.train",
    "gpt2_lightning.app.commands.finetune",
)
_PREFIX = "gpt2-processes-"
_SEMAPHORES = Path("/dev/shm")
_SECONDS_TO_LOCK = 60.0
"""Younger folders may be about to be locked."""
_AT_IMPORT = dict(os.environ)
"""In a forked process, the environment of the server."""


@functools.cache
def temporary_folder() -> Path:
    """Create the folder of this process for temporary files of its children; it is removed at exit.

    Semaphores of `multiprocessing` are named after it. What a process leaves that was killed together with its resource
    tracker, as with its process group or container, is removed by the next one: nobody holds the lock of its folder.
    """
    if METHOD != "forkserver":
        return Path(tempfile.gettempdir())
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _SECONDS_TO_LOCK and _lock(left):
                for semaphore in _SEMAPHORES.glob(f"sem.{left.name}-*"):
                    semaphore.unlink()
                shutil.rmtree(left)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _lock(folder)
    # Private, and without a public equivalent; the names have been the same since Python 3.4.
    settings = multiprocessing.current_process()._config  # type: ignore[attr-defined]  # see above
    settings.update(semprefix=f"/{folder.name}", tempdir=str(folder))
    return folder


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


def preload(more: Iterable[str] = ()) -> None:
    """Set the modules that the fork server imports when it starts.

    Args:
        more: modules in addition to those of this package.
    """
    if METHOD == "forkserver":
        temporary_folder()
        multiprocessing.get_context(METHOD).set_forkserver_preload([*_PRELOADED, *more])


def enter(environment: Mapping[str, str]) -> None:
    """Adopt the parent's environment, and stop when the parent ends. Must be called first in a new process.

    Args:
        environment: environment of the parent, which may have changed since the server started. Variables set for
            this process only are kept.
    """
    given = {name: value for name, value in os.environ.items() if _AT_IMPORT.get(name) != value}
    os.environ.clear()
    os.environ.update({**environment, **given})
    guard_output(required=False)
    threading.Thread(target=_stop_with_the_parent, daemon=True).start()


def _stop_with_the_parent() -> None:
    """Send SIGTERM to this process when its parent ends, so that it saves a checkpoint and stops."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is a child process"
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
