"""Runs of a sweep in separate processes, so that the failure of one does not end the others."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from gpt2_lightning.app.launch import forkserver
from gpt2_lightning.app.output.exits import fail, os_error_message
from gpt2_lightning.app.sweeping.status import ENDED, Status

_LOCK = "running.lock"
_SECONDS_TO_SAVE = 20.0
"""Seconds to wait for a run whose sweep was killed; it saves a checkpoint and stops."""


class JobProcess:
    """Process of one run, started on construction.

    Args:
        verb: `train` or `finetune`.
        plain: the resolved configuration, checked by preflight; an unfinished run in `run_dir` is resumed.
        hydra: Hydra's configuration of the job, see `portable_hydra_config`.
        preload: additional modules that the fork server imports once for all runs.
    """

    def __init__(self, verb: str, plain: dict[str, Any], hydra: Any, preload: Iterable[str] = ()) -> None:
        self.folder = Path(plain["run_dir"])
        if multiprocessing.get_start_method() not in multiprocessing.get_all_start_methods():
            multiprocessing.set_start_method(None, force=True)  # joblib's method, unknown in a new process
        forkserver.preload(preload)
        context: Any = multiprocessing.get_context(forkserver.METHOD)
        self._process = context.Process(target=_job_main, args=(verb, plain, hydra, dict(os.environ)))
        self._process.start()
        self._told = False

    @property
    def sentinel(self) -> int:
        """Handle for `multiprocessing.connection.wait`, ready when the process has ended."""
        return self._process.sentinel

    def tell(self, number: int) -> None:
        """Send a signal to the process.

        Args:
            number: signal number.
        """
        self._told = True
        if self._process.pid is not None and self._process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def wait(self) -> Status:
        """Wait for the process to end, and return the status of its run.

        The state is still `running` if another command is running the same folder.
        """
        self._process.join()
        code = self._process.exitcode
        assert code is not None, "it has been joined"
        status = Status.read(self.folder)
        assert status is not None, "it was there before the process started"
        if status.state in ENDED or code == 0:
            return status
        if self._told:  # signaled before its handlers were installed
            status = status.now(state="stopped")
        elif code < 0:
            by = signal.Signals(-code).name
            status = status.now(state="failed", error=f"its process was ended by {by}, perhaps since memory ran out")
        else:
            status = status.now(state="failed", error=f"its process ended with code {code}")
        status.write(self.folder)
        return status


@contextlib.contextmanager
def passing_signals_on(jobs: Iterable[JobProcess]) -> Iterator[list[int]]:
    """Context manager that forwards SIGINT and SIGTERM to the jobs, which stop after their current step.

    Args:
        jobs: processes to signal; iterated over when a signal arrives.

    Yields:
        The list of received signals, which grows as they arrive.
    """
    received: list[int] = []
    previous: dict[int, Any] = {}

    def pass_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for job in list(jobs):
            job.tell(number)

    if threading.current_thread() is threading.main_thread():
        previous = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _job_main(verb: str, plain: dict[str, Any], hydra: Any, environment: dict[str, str]) -> None:
    from filelock import FileLock, Timeout

    forkserver.enter(environment)
    os.setpgid(0, 0)  # so that Ctrl-C on the terminal reaches the run once, through the sweep
    folder = Path(plain["run_dir"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / _LOCK, timeout=_SECONDS_TO_SAVE):
            _run(verb, plain, hydra, folder)
            (folder / _LOCK).unlink(missing_ok=True)
    except Timeout:
        print(f"{folder} is in use by another command and was skipped", file=sys.stderr)
    except OSError as error:  # the status cannot be written
        fail(os_error_message(error), 1)


def _run(verb: str, plain: dict[str, Any], hydra: Any, folder: Path) -> None:
    from hydra.core.hydra_config import HydraConfig

    HydraConfig.instance().cfg = hydra
    before = Status.read(folder) or Status({}, "")
    if before.state in ENDED:  # another command has finished this run
        return
    status = before.now(state="running", error="", pid=os.getpid())
    status.write(folder)
    began = time.monotonic()
    ending = _carried_out(verb, plain)
    status.now(**ending, seconds=before.seconds + time.monotonic() - began).write(folder)


def _carried_out(verb: str, plain: dict[str, Any]) -> dict[str, Any]:
    """Run a verb, and return its outcome as fields of `Status`."""
    from gpt2_lightning.app.launch import launcher
    from gpt2_lightning.errors import UserError

    try:
        return {"state": "done", "value": launcher.run(verb, {**plain, "resume": "here"})}
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return {"state": "failed", "error": str(error)}
    except KeyboardInterrupt:
        return {"state": "stopped"}
    except SystemExit as stop:
        if stop.code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
            return {"state": "stopped"}
        return {"state": "failed", "error": getattr(stop, "message", "") or f"it ended with code {stop.code}"}
    except Exception:
        trace = traceback.format_exc()
        print(trace, file=sys.stderr, end="")
        return {"state": "failed", "error": trace}
