"""A run of a sweep, in a process of its own: whatever ends it, the others go on."""

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
from gpt2_lightning.app.sweeping.status import ENDED, Status

_LOCK = "running.lock"
_SECONDS_TO_SAVE = 20.0
"""How long the run of a sweep that was killed is waited for; it stops by itself."""


class JobProcess:
    """A run that has been started.

    Args:
        verb: `train` or `finetune`.
        plain: the resolved configuration, checked by preflight; `run_dir` may hold an unfinished run to go on with.
        hydra: what Hydra knows of the job.
        preload: more modules to import once for all runs.
    """

    def __init__(self, verb: str, plain: dict[str, Any], hydra: Any, preload: Iterable[str] = ()) -> None:
        self.folder = Path(plain["run_dir"])
        if multiprocessing.get_start_method() not in multiprocessing.get_all_start_methods():
            multiprocessing.set_start_method(None, force=True)  # joblib's own, which a new process would not find
        forkserver.preload(preload)
        context: Any = multiprocessing.get_context(forkserver.METHOD)
        self._process = context.Process(target=_job_main, args=(verb, plain, hydra, dict(os.environ)))
        self._process.start()
        self._told = False

    @property
    def sentinel(self) -> int:
        """Ready for `multiprocessing.connection.wait` when the process has ended."""
        return self._process.sentinel

    def tell(self, number: int) -> None:
        """Send it a signal."""
        self._told = True
        if self._process.pid is not None and self._process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def wait(self) -> Status:
        """How it ended, when it has.

        A run that is `running` still is another command's, which holds its folder.
        """
        self._process.join()
        code = self._process.exitcode
        assert code is not None, "it has been joined"
        status = Status.read(self.folder)
        assert status is not None, "it was there before the process started"
        if status.state in ENDED or code == 0:
            return status
        if self._told:  # before it could listen
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
    """Let Ctrl-C and SIGTERM stop the jobs after their step, and not this program.

    Args:
        jobs: looked at when a signal comes.

    Yields:
        The signals that have come.
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
    os.setpgid(0, 0)  # so that a Ctrl-C on the terminal comes once, from the sweep
    folder = Path(plain["run_dir"])
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK, timeout=_SECONDS_TO_SAVE)
    try:
        with lock:
            _run(verb, plain, hydra, folder)
            (folder / _LOCK).unlink(missing_ok=True)
    except Timeout:
        print(f"{folder} is in the hands of another command, and left to it", file=sys.stderr)


def _run(verb: str, plain: dict[str, Any], hydra: Any, folder: Path) -> None:
    from hydra.core.hydra_config import HydraConfig

    HydraConfig.instance().cfg = hydra
    before = Status.read(folder) or Status({}, "")
    if before.state in ENDED:  # another command was faster
        return
    status = before.now(state="running", error="", pid=os.getpid())
    status.write(folder)
    began = time.monotonic()
    ending = _carried_out(verb, plain)
    status.now(**ending, seconds=before.seconds + time.monotonic() - began).write(folder)


def _carried_out(verb: str, plain: dict[str, Any]) -> dict[str, Any]:
    """Run a verb; what became of it, as fields of a status."""
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
