"""What the processes of a run leave for the program that started them, in files: how they ended, and the run's folder.

A process that lost another one fails as well. It marks its report, so that the cause is told and not what followed.
"""

from __future__ import annotations

import json
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpt2_lightning.atomic import write_text
from gpt2_lightning.training import distributed

_RUN = "run"
_SIGNS_OF_LOSS = ("gloo", "nccl", "connection", "timed out", "timeout", "broken pipe", "socket", "store")


_folder: Path | None = None
"""Where this process, if it was started by this program, leaves what it says."""


def leave_in(folder: Path) -> None:
    """Say where this process leaves its reports."""
    global _folder
    _folder = folder


def note_run(run_dir: Path) -> None:
    """Tell the program that started this process, if that was this program, the run's folder."""
    if _folder is not None:
        write_text(_folder / f"{_RUN}-{distributed.rank()}", str(run_dir.absolute()), durable=False)


def noted_run(folder: Path) -> Path | None:
    """The run's folder; None where none was chosen yet."""
    return next((Path(file.read_text(encoding="utf-8")) for file in folder.glob(f"{_RUN}-*")), None)


@dataclass(frozen=True)
class Report:
    """How a process ended, unless well."""

    rank: int
    time: float
    code: int
    message: str = ""
    """Of a user's mistake."""
    trace: str = ""
    """Of any other exception."""
    lost_another: bool = False
    """Whether it failed since another process was gone or did not answer."""


def report(code: Any, message: str = "", trace: str = "", error: Exception | None = None) -> None:
    """Say how this process ends.

    Args:
        code: its exit code.
        message: of a user's mistake.
        trace: of any other exception.
        error: the exception.
    """
    assert _folder is not None, "this process was not started by this program"
    rank = distributed.rank()
    said = Report(rank, time.time(), int(code or 0), message, trace, error is not None and _tells_of_loss(error))
    write_text(_folder / f"{rank}.json", json.dumps(asdict(said)), durable=False)


def read(folder: Path) -> list[Report]:
    """The reports, the earliest first: what comes later may follow from it."""
    reports = [Report(**json.loads(file.read_text(encoding="utf-8"))) for file in folder.glob("*.json")]
    return sorted(reports, key=lambda report: report.time)


@dataclass(frozen=True)
class Death:
    """The end of a run of several processes that was no user's mistake and was not asked for."""

    what: str
    """What happened, in a sentence without an end."""
    trace: str = ""
    """Where a process failed, if one could tell."""


def cause(reports: list[Report], rank: int, exit_code: int, count: int, timeout: float) -> Report | Death:
    """Why a run of several processes failed.

    Args:
        reports: of the processes that could say so, the earliest first.
        rank: the process that was found dead.
        exit_code: its exit code; minus the signal where one ended it.
        count: of processes.
        timeout: seconds that processes waited for each other.

    Returns:
        A report, where a process ended in its own way; otherwise what happened.
    """
    own = [report for report in reports if not report.lost_another]
    if not reports or (exit_code < 0 and exit_code != -signal.SIGABRT):
        by = f"by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"with code {exit_code}"
        return Death(f"process {rank} of {count} (from 0) was ended {by}, perhaps since memory ran out")
    if not own:
        return lost_others(f"process {reports[0].rank} of {count} (from 0)", timeout)
    first = own[0]
    return Death(f"process {first.rank} of {count} (from 0) failed", first.trace) if first.trace else first


def lost_others(who: str, timeout: float) -> Death:
    """Describe a rank or machine whose connections were lost."""
    return Death(
        f"{who} lost the others: they ended, could not be reached, or did not answer for {timeout:g} seconds "
        "(trainer.timeout)"
    )


def _tells_of_loss(error: Exception) -> bool:
    """Whether this is how torch's ways of talking fail when nobody answers."""
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS_OF_LOSS)
