"""Reports of ranks to their parent process, in files: the cause of a failure, and the run's folder.

A rank that loses its connection to a failed rank fails, too. Its report is marked, so that the message names the cause.
"""

from __future__ import annotations

import json
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpt2_lightning import gpus
from gpt2_lightning.app.output.exits import USER_ERROR
from gpt2_lightning.atomic import write_text
from gpt2_lightning.training import distributed

_RUN = "run"
_SIGNS_OF_LOSS = ("gloo", "nccl", "connection", "timed out", "timeout", "broken pipe", "socket", "store")


_folder: Path | None = None
"""Folder of the reports; None unless this process is a rank started by `app.launch`."""


def leave_in(folder: Path) -> None:
    """Set the folder of this rank's reports."""
    global _folder
    _folder = folder


def note_run(run_dir: Path) -> None:
    """Report the run's folder, if this process was started by `app.launch`."""
    if _folder is not None:
        write_text(_folder / f"{_RUN}-{distributed.rank()}", str(run_dir.absolute()), durable=False)


def noted_run(folder: Path) -> Path | None:
    """Return the run's folder; None if none was chosen yet."""
    return next((Path(file.read_text(encoding="utf-8")) for file in folder.glob(f"{_RUN}-*")), None)


@dataclass(frozen=True)
class Report:
    """Failure of a rank."""

    rank: int
    time: float
    code: int
    message: str = ""
    """Message of a user's mistake, or of the failure of a GPU."""
    trace: str = ""
    """Stack trace of any other exception."""
    lost_another: bool = False
    """Whether the rank failed because another rank ended or timed out."""


def report(code: Any, message: str = "", trace: str = "", error: Exception | None = None) -> None:
    """Report the failure of this rank.

    Args:
        code: exit code.
        message: message of a user's mistake.
        trace: stack trace of any other exception, unless it is the failure of a GPU.
        error: the exception.
    """
    assert _folder is not None, "this process was not started by this program"
    rank = distributed.rank()
    if error is not None and (failure := gpus.failure(error)) is not None:
        message, trace = failure, ""
    said = Report(rank, time.time(), int(code or 0), message, trace, error is not None and _tells_of_loss(error))
    write_text(_folder / f"{rank}.json", json.dumps(asdict(said)), durable=False)


def read(folder: Path) -> list[Report]:
    """Read the reports, sorted by time: later failures may be caused by the first."""
    reports = [Report(**json.loads(file.read_text(encoding="utf-8"))) for file in folder.glob("*.json")]
    return sorted(reports, key=lambda report: report.time)


@dataclass(frozen=True)
class Death:
    """A failure of a run with several ranks that is not a user's mistake."""

    what: str
    """Description of the failure, as the beginning of a sentence."""
    trace: str = ""
    """Stack trace of the rank that failed, if there is one."""


def cause(reports: list[Report], rank: int, exit_code: int, count: int, timeout: float) -> Report | Death:
    """Find the cause of a failed run.

    Args:
        reports: reports of the ranks, the earliest first.
        rank: the rank that was found dead.
        exit_code: exit code of that rank; the negative signal number if a signal ended it.
        count: number of ranks.
        timeout: seconds that ranks wait for each other.

    Returns:
        The report of a rank that exited by itself; otherwise a `Death`.
    """
    own = [report for report in reports if not report.lost_another]
    if not reports and exit_code == -signal.SIGABRT:
        return Death(
            f"process {rank} of {count} (from 0) was ended by SIGABRT, as NCCL does if another did not answer for "
            f"{timeout:g} seconds (trainer.timeout), or its GPU failed"
        )
    if not reports or (exit_code < 0 and exit_code != -signal.SIGABRT):
        by = f"by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"with code {exit_code}"
        return Death(f"process {rank} of {count} (from 0) was ended {by}, perhaps since memory ran out")
    if not own:
        return lost_others(f"process {reports[0].rank} of {count} (from 0)", timeout)
    first = own[0]
    failed = f"process {first.rank} of {count} (from 0) failed"
    if first.trace:
        return Death(failed, first.trace)
    return Death(f"{failed}: {first.message}") if first.message and first.code != USER_ERROR else first


def lost_others(who: str, timeout: float) -> Death:
    """Describe a rank or machine whose connections were lost."""
    return Death(
        f"{who} lost the others: they ended, could not be reached, or did not answer for {timeout:g} seconds "
        "(trainer.timeout)"
    )


def _tells_of_loss(error: Exception) -> bool:
    """Whether an error is one that torch raises when another rank does not answer."""
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS_OF_LOSS)
