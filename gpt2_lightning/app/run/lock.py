"""Lock of a run's folder: two programs cannot write into the same run."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from gpt2_lightning import atomic
from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.checkpoints import folder
from gpt2_lightning.errors import UserError

log = logging.getLogger(__name__)

_NAME = "run.lock"
_UNSUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


def is_unfinished(run_dir: Path) -> bool:
    """Whether a run has started and not ended: it is in progress, was stopped, or was killed."""
    return (run_dir / _NAME).exists()


@contextlib.contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Lock the folder of a run, and remove temporary files that a killed process left there.

    The operating system releases the lock when the process ends in any way. The lock file holds the process ID and the
    host, and is removed when the context ends without an exception; see `is_unfinished`. Reading a run takes no lock.

    Args:
        run_dir: an existing folder.

    Raises:
        UserError: if another process holds the lock, or the folder cannot be written.
    """
    from filelock import FileLock, SoftFileLock, Timeout

    file = run_dir / _NAME
    lock = FileLock(file, timeout=0)
    try:
        lock.acquire()
        if not isinstance(lock, SoftFileLock):  # the fallback without flock, which writes the same two lines
            with contextlib.suppress(OSError):  # Windows refuses other handles of a locked file
                file.write_text(f"{os.getpid()}\n{socket.gethostname()}\n", encoding="utf-8")
    except Timeout:
        deleting = f", or delete {file} if it no longer exists" if isinstance(lock, SoftFileLock) else ""
        raise UserError(
            f"run_dir: {display_path(run_dir)} is in use by {_holder(file)}; wait until it has ended, stop it"
            f"{deleting}, or start a new run with resume=never"
        ) from None
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise UserError(
                f"run_dir: {run_dir} cannot be written: {error.strerror}; set run_dir or runs_dir"
            ) from None
        log.warning("%s cannot be locked (%s): do not resume this run while it is in progress", run_dir, error.strerror)
    try:
        for place in (run_dir, run_dir / folder.FOLDER):
            atomic.remove_temporaries(place)
        yield
        with contextlib.suppress(OSError):  # Windows does not delete open files
            file.unlink()
    finally:
        lock.release()


def _holder(file: Path) -> str:
    try:
        pid, host, *_ = file.read_text(encoding="utf-8").split()
    except (OSError, ValueError):  # Windows, or between the lock and the writing of these lines
        return "another process"
    return f"process {pid} on {host}"
