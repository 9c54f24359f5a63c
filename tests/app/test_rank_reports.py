"""What processes leave behind, and which of it was the cause."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch.distributed

from gpt2_lightning.app.run import rank_failures
from gpt2_lightning.app.run.rank_failures import Death, Report, cause
from tests.planted_gpus import NO_DEVICE


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(rank_failures, "_folder", tmp_path)
    return tmp_path


def be(monkeypatch: pytest.MonkeyPatch, rank: int, seconds: float) -> None:
    """Be a process, at a time."""
    monkeypatch.setattr("gpt2_lightning.training.distributed.rank", lambda: rank)
    monkeypatch.setattr("time.time", lambda: seconds)


def lost(rank: int, seconds: float = 0.0) -> Report:
    return Report(rank, seconds, 1, trace="Connection closed by peer", lost_another=True)


def test_reports_are_read_in_the_order_of_their_times(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for rank, seconds in ((0, 7.0), (1, 5.0), (2, 6.0)):
        be(monkeypatch, rank, seconds)
        rank_failures.report(1)
    assert [each.rank for each in rank_failures.read(folder)] == [1, 2, 0]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("[…/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:11406"), True),
        (
            RuntimeError("[…/gloo/transport/tcp/buffer.cc:78] Timed out waiting 60000ms for recv operation"),
            True,
        ),
        (torch.distributed.DistBackendError("NCCL error in: ProcessGroupNCCL.cpp:77, remote process exited"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x2 and 3x2)"), False),
        (ValueError("the store has no such key"), False),
    ],
)
def test_a_report_says_whether_another_process_was_lost(folder: Path, error: Exception, expected: bool) -> None:
    rank_failures.report(1, trace="…", error=error)
    (found,) = rank_failures.read(folder)
    assert found.lost_another == expected


def test_the_first_failure_is_the_cause_and_not_what_followed() -> None:
    failed = Report(0, 5.0, 1, trace="ZeroDivisionError: the cause")
    assert cause([lost(1, 4.0), failed], 1, 1, 2, 60) == Death("process 0 of 2 (from 0) failed", failed.trace)


def test_a_users_mistake_is_told_as_in_one_process() -> None:
    mistake = Report(1, 3.0, 2, message="data.path: no such file")
    assert cause([mistake, lost(0)], 0, 1, 2, 60) is mistake


def test_a_process_that_was_killed_is_named() -> None:
    end = cause([lost(0)], 1, -signal.SIGKILL, 2, 60)
    assert isinstance(end, Death)
    assert end.what == "process 1 of 2 (from 0) was ended by SIGKILL, perhaps since memory ran out"
    end = cause([], 1, 7, 2, 60)
    assert isinstance(end, Death)
    assert "process 1 of 2 (from 0) was ended with code 7" in end.what


@pytest.mark.parametrize("code", [1, -signal.SIGABRT], ids=["gloo", "nccl"])
def test_where_all_lost_another_that_is_what_is_told(code: int) -> None:
    """The other was on another machine. NCCL's watchdog aborts its process."""
    end = cause([lost(1)], 1, code, 2, 60)
    assert isinstance(end, Death)
    assert end.trace == ""
    assert "process 1 of 2 (from 0) lost the others" in end.what
    assert "did not answer for 60 seconds (trainer.timeout)" in end.what


def test_nccl_ends_processes_that_wait_too_long() -> None:
    """Its watchdog aborts the process, which leaves no report."""
    end = cause([], 1, -signal.SIGABRT, 2, 60)
    assert isinstance(end, Death)
    assert "process 1 of 2 (from 0) was ended by SIGABRT, as NCCL does if another did not answer for 60" in end.what


def test_a_gpu_that_fails_is_the_cause_and_needs_no_trace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    be(monkeypatch, 1, 5.0)
    rank_failures.report(1, trace="Traceback", error=NO_DEVICE)
    (failed,) = rank_failures.read(folder)
    end = cause([lost(0, 4.0), failed], 0, 1, 2, 60)
    assert isinstance(end, Death)
    assert end.what.startswith(
        "process 1 of 2 (from 0) failed: CUDA error: no CUDA-capable device is detected; the GPU"
    )
    assert end.trace == ""


def test_the_folder_of_a_run_is_noted(folder: Path, tmp_path: Path) -> None:
    assert rank_failures.noted_run(folder) is None
    rank_failures.note_run(tmp_path / "here")
    assert rank_failures.noted_run(folder) == tmp_path / "here"
    assert rank_failures.read(folder) == []


def test_a_process_by_itself_notes_nothing(tmp_path: Path) -> None:
    rank_failures.note_run(tmp_path)
    assert list(tmp_path.iterdir()) == []
