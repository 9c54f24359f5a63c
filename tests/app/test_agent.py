"""Real processes that fail, and what is told of it."""

from __future__ import annotations

import dataclasses
import errno
import functools
import multiprocessing
import os
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from torch.distributed.launcher import api

from gpt2_lightning.app.launch import elastic
from gpt2_lightning.app.launch.elastic import Agent
from gpt2_lightning.app.run import rank_failures
from gpt2_lightning.app.run.rank_failures import Death
from gpt2_lightning.training import distributed
from gpt2_lightning.training.interrupts import SignalWatch
from gpt2_lightning.training.trainer import TrainerSpec

SECONDS_TO_END = 15


def divide_by_zero_on_the_second() -> None:
    """The first waits for the second, so that it fails as well."""
    (Path(os.environ["PIDS"]) / str(distributed.rank())).write_text(str(os.getpid()))
    distributed.join(on_cuda=False, timeout=timedelta(seconds=60))
    if distributed.rank() == 1:
        (Path(os.environ["PIDS"]) / "failed").touch()
        print(1 / 0)
    distributed.barrier()


@pytest.mark.slow
def test_the_traceback_of_the_process_that_failed_is_the_one_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids, folder = tmp_path / "pids", tmp_path / "left"
    for each in (pids, folder):
        each.mkdir()
    monkeypatch.setenv("PIDS", str(pids))
    spec = TrainerSpec(accelerator="cpu", strategy="ddp", devices=2, timeout=60)
    end = Agent(spec, None).run(divide_by_zero_on_the_second, 0, folder)
    assert time.time() - (pids / "failed").stat().st_mtime < SECONDS_TO_END
    assert isinstance(end, Death)
    assert end.what == "process 1 of 2 (from 0) failed"
    assert "divide_by_zero_on_the_second" in end.trace
    assert end.trace.endswith("ZeroDivisionError: division by zero\n")
    started = [int((pids / rank).read_text()) for rank in ("0", "1")]
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)


def signal_the_agent(pid: int, number: int, pids: Path) -> None:
    """On two ranks, in the last step of a run, which is too late for a stop."""
    watch = SignalWatch()
    watch.start()
    (pids / str(distributed.rank())).write_text(str(os.getpid()))
    while len(list(pids.iterdir())) < 2:
        time.sleep(0.01)
    if distributed.rank() == 0:
        os.kill(pid, number)
    time.sleep(1)
    watch.stop()


def run_until_stopped(number: int, pids: Path) -> None:
    spec = TrainerSpec(accelerator="cpu", strategy="ddp", devices=2, timeout=60)
    Agent(spec, None).run(functools.partial(signal_the_agent, os.getpid(), number, pids), 0, pids.parent / "left")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_ranks_that_complete_when_the_agent_stops_end(tmp_path: Path, number: int, code: int) -> None:
    """torch's ranks wait for an agent that reads their results."""
    pids = tmp_path / "pids"
    for each in (pids, tmp_path / "left"):
        each.mkdir()
    agent = multiprocessing.get_context("spawn").Process(target=run_until_stopped, args=(number, pids))
    agent.start()
    agent.join(60)
    assert agent.exitcode == code
    ranks = [int(file.read_text()) for file in pids.iterdir()]
    deadline = time.monotonic() + SECONDS_TO_END
    while left := [rank for rank in ranks if Path(f"/proc/{rank}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "run/samples.md"), 2, "run/samples.md cannot be written"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), 1, "ConnectionResetError"),
    ],
)
def test_a_file_that_a_rank_cannot_write_is_named_without_a_trace(
    error: OSError, code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error

    def end(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(rank_failures, "_folder", None)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    monkeypatch.setattr(elastic.forkserver, "enter", lambda environment: None)
    monkeypatch.setattr(elastic, "_end", end)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.raises(SystemExit) as stop:
        elastic._rank_main(fail, None, tmp_path, {})
    assert stop.value.code == code
    (report,) = rank_failures.read(tmp_path)
    assert (report.message or report.trace.splitlines()[-1]).startswith(said)
    assert bool(report.trace) == (code == 1)


@pytest.mark.parametrize("has_setting", [True, False], ids=["torch 2.13", "torch 2.11"])
def test_a_stopped_run_has_its_timeout_to_save_where_torch_has_the_setting(
    has_setting: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [field.name for field in dataclasses.fields(api.LaunchConfig)]
    of_torch = dataclasses.make_dataclass(
        "LaunchConfig", [(name, Any, None) for name in names if has_setting or name != "shutdown_timeout"]
    )
    monkeypatch.setattr(api, "LaunchConfig", of_torch)
    config = Agent(TrainerSpec(accelerator="cpu", strategy="ddp", devices=2, timeout=60), None)._config(0, tmp_path)
    assert config.nproc_per_node == 2
    assert getattr(config, "shutdown_timeout", None) == (60 if has_setting else None)


def test_a_fork_server_that_is_killed_at_the_start_is_the_death_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> Any:
        def launch(*_: Any) -> Any:
            raise EOFError("unexpected EOF")  # as multiprocessing.forkserver.read_signed

        return launch

    monkeypatch.setattr(api, "elastic_launch", killed)
    spec = TrainerSpec(accelerator="cpu", strategy="ddp", devices=2, timeout=60)
    assert Agent(spec, None).run(lambda: None, 0, tmp_path) == Death("the server that starts the ranks was killed")
