"""Runs of several processes, from the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpt2_lightning.app import launch
from gpt2_lightning.app.resume import require_same_settings
from gpt2_lightning.app.run_settings import share_of_batch
from gpt2_lightning.errors import UserError

Run = Callable[..., Any]
ON_TWO = ["model=tiny", "batch_size=4", "trainer=ddp_cpu", "callbacks.samples.max_new_tokens=20"]


@pytest.fixture
def start(workplace: Path, root: Path, small_text: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start training on two processes."""

    def do(*settings: str) -> subprocess.Popen[str]:
        text = ["data=text", f"data.path={small_text}"]
        command = [sys.executable, str(root / "train.py"), *ON_TWO, *text, *settings]
        return subprocess.Popen(command, cwd=workplace, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    return do


def wait_for_checkpoint(run_dir: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not list(run_dir.glob("checkpoints/step-*.ckpt")):
        assert time.monotonic() < deadline, "no checkpoint appeared"
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)


def ranks_of(process: subprocess.Popen[str]) -> list[int]:
    """Process ids of what a program has started to train, in the order of their starts."""
    tasks = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    started = sorted(int(number) for number in tasks.read_text().split())
    return [pid for pid in started if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


needs_proc = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are found in /proc")


def test_a_job_of_a_sweep_trains_on_two_and_one_speaks(
    start: Callable[..., subprocess.Popen[str]], workplace: Path
) -> None:
    length = ["trainer.max_steps=4", "trainer.val_check_interval=2", "hydra.sweep.dir=sweep"]
    process = start("-m", "optimizer.lr=1e-3", *length)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    assert output.count("plan: ") == 1
    assert "on 2 processes" in output
    assert output.count("step 4 of 4") == 1
    assert "Warning" not in output
    run = workplace / "sweep" / "0"
    files = {str(file.relative_to(run)) for file in run.rglob("*") if file.is_file()}
    checkpoints = {"checkpoints/best.ckpt", "checkpoints/step-000004.ckpt"}
    assert files == {"config.yaml", "metrics.csv", "loss.png", "samples.md", "train.log", *checkpoints}
    assert (run / "samples.md").read_text().count("## Step") == 2
    assert (run / "train.log").read_text().count("step 4 of 4") == 1
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["devices"] == 2
    assert not (workplace / "sweep" / "0-1").exists()


@needs_proc
def test_a_signal_saves_once_and_says_how_to_go_on(
    start: Callable[..., subprocess.Popen[str]], workplace: Path
) -> None:
    """A Ctrl-C reaches every process from the terminal, and those that train once more from their parent."""
    process = start("trainer.max_steps=9999", "callbacks.checkpoint.every_n_steps=5", "run_dir=here")
    wait_for_checkpoint(workplace / "here", process)
    ranks = ranks_of(process)
    assert len(ranks) == 2
    for pid in (*ranks, process.pid):
        os.kill(pid, signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert output.count("stopped by SIGINT") == 1
    assert output.strip().endswith("resume=here")
    (saved,) = (workplace / "here" / "checkpoints").glob("step-*.ckpt")
    assert f"at step {int(saved.stem[5:])}, which is saved" in output
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)


@needs_proc
def test_a_killed_process_ends_the_others_and_is_named(
    start: Callable[..., subprocess.Popen[str]], workplace: Path
) -> None:
    process = start("trainer.max_steps=9999", "callbacks.checkpoint.every_n_steps=5", "run_dir=here")
    wait_for_checkpoint(workplace / "here", process)
    ranks = ranks_of(process)
    os.kill(ranks[1], signal.SIGKILL)
    output = process.communicate(timeout=15)[0]
    assert process.returncode == 1, output
    assert "error: process 1 of 2 (from 0) was ended by SIGKILL" in output
    assert "Traceback" not in output
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)


def report(rank: int, seconds: float, code: int = 1, message: str = "", trace: str = "") -> dict[str, Any]:
    return {"rank": rank, "time": seconds, "code": code, "message": message, "trace": trace}


def test_the_first_failure_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second follows from the first, whichever the agent found first."""
    launch._report(tmp_path, 1, trace="ZeroDivisionError: the cause\n")
    first = launch._read(tmp_path)
    with pytest.raises(SystemExit) as stop:
        launch._tell([*first, report(1, first[0]["time"] + 1, trace="Connection closed by peer\n")], 1, 1, count=2)
    assert stop.value.code == 1
    assert capsys.readouterr().err == "process 0 of 2 (from 0) failed\nZeroDivisionError: the cause\n"


def test_reports_are_read_in_the_order_of_their_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for rank, seconds in ((0, 7.0), (1, 5.0), (2, 6.0)):
        monkeypatch.setattr("gpt2_lightning.training.processes.rank", lambda rank=rank: rank)
        monkeypatch.setattr("time.time", lambda seconds=seconds: seconds)
        launch._report(tmp_path, 1)
    assert [each["rank"] for each in launch._read(tmp_path)] == [1, 2, 0]


def test_a_users_mistake_is_told_as_in_one_process() -> None:
    reports = [report(1, 3.0, code=2, message="data.path: no such file"), report(0, 4.0, trace="lost the other")]
    with pytest.raises(UserError, match=r"^data\.path: no such file$"):
        launch._tell(reports, 0, 1, count=2)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["batch_size=9"], "batch_size: 9 does not divide among 2 processes, one for each device; the nearest"),
        (["batch_size=1"], "the nearest that do: 2"),
        (["batch_size=12", "micro_batch_size=4"], "micro_batch_size: 4 does not divide 6, the share of each of 2"),
        (["trainer.devices=0"], "trainer.devices: 0 is out of range"),
        (["trainer.timeout=0"], "trainer.timeout: 0 is out of range"),
        (["trainer.strategy=single"], "trainer.devices: 2 need as many processes; use trainer=ddp"),
    ],
)  # fmt: skip
def test_what_cannot_be_shared_out_is_refused_before_anything_starts(
    run_verb: Run, workplace: Path, arguments: list[str], expected: str
) -> None:
    outcome = run_verb("train", "model=tiny", "trainer=ddp_cpu", *arguments)
    assert outcome.code == 2
    assert expected in outcome.err
    assert not (workplace / "runs").exists()


def test_gpus_that_are_not_there_are_named(run_verb: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "use trainer=ddp_cpu, or trainer=auto for one process" in run_verb("train", "trainer=ddp").err
    assert "use auto" in run_verb("train", "trainer=gpu").err
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    outcome = run_verb("train", "trainer=ddp", "trainer.devices=4")
    assert outcome.code == 2
    assert "trainer.devices: 4 are asked for, and this machine has 2" in outcome.err


@pytest.mark.parametrize(("batch", "micro", "count", "share"), [(12, None, 1, 12), (12, 3, 2, 6), (12, 4, 3, 4)])
def test_shares_by_hand(batch: int, micro: int | None, count: int, share: int) -> None:
    assert share_of_batch(batch, micro, count) == share


def test_processes_with_other_settings_are_told_apart() -> None:
    same = {"optimizer": {"lr": 0.1}, "run_dir": "a"}
    require_same_settings([same, {**same, "run_dir": "b"}])
    with pytest.raises(
        UserError, match=r"process 2 was started with other settings .*\n  optimizer\.lr: 0\.1 and 0\.2"
    ):
        require_same_settings([same, same, {**same, "optimizer": {"lr": 0.2}}])


def under_torchrun(monkeypatch: pytest.MonkeyPatch, world: int, local: int) -> None:
    numbers = {"RANK": 0, "WORLD_SIZE": world, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": local}
    for name, number in {**numbers, "TORCHELASTIC_RUN_ID": "test"}.items():
        monkeypatch.setenv(name, str(number))


def test_a_trainer_of_one_is_refused_under_torchrun(run_verb: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    under_torchrun(monkeypatch, world=4, local=2)
    outcome = run_verb("train", "model=tiny", "trainer=cpu")
    assert outcome.code == 2
    assert "4 processes were started, by torchrun or srun, for a trainer of one; use trainer=ddp" in outcome.err


def test_other_devices_than_torchrun_has_started_are_refused(run_verb: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    under_torchrun(monkeypatch, world=6, local=3)
    outcome = run_verb("train", "model=tiny", "trainer=ddp_cpu")
    assert outcome.code == 2
    assert (
        "trainer.devices: 3 processes were started on this machine, by torchrun or srun, for 2 devices" in outcome.err
    )
