"""A run for each combination of values: what fails, what is killed, and what the same command does again."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hydra.core.hydra_config import HydraConfig

from gpt2_lightning.app.launch import forkserver
from gpt2_lightning.app.sweeping import folders, grid, job_process
from gpt2_lightning.app.sweeping.status import Status, digest_of
from gpt2_lightning.errors import UserError
from tests.app.tiny_runs import TINY

Run = Callable[..., Any]
SHORT = [*TINY, "data=text", "trainer.max_steps=2", "callbacks.samples=null"]


def states(sweep: Path) -> dict[str, str]:
    return {run.name: status.state for run in sorted(sweep.glob("*")) if run.is_dir() and (status := Status.read(run))}


def starts(run: Path) -> int:
    return (run / "train.log").read_text().count("folder: ") if (run / "train.log").exists() else 0


@pytest.mark.slow
def test_what_fails_leaves_the_others_and_is_all_that_runs_again(
    run_verb: Run, small_text: Path, workplace: Path
) -> None:
    (workplace / "a.txt").write_text(small_text.read_text())
    command = ["-m", *SHORT, "data.path=a.txt,b.txt", "optimizer.lr=1e-3,3e-3"]
    outcome = run_verb("train", *command)
    assert outcome.code == 1
    (sweep,) = (workplace / "runs" / "sweeps").iterdir()
    assert states(sweep) == {"0": "done", "1": "done", "2": "failed", "3": "failed"}
    assert "no file or folder" in Status.read(sweep / "2").error
    assert "2 of 4 runs have not ended" in outcome.out
    (workplace / "b.txt").write_text(small_text.read_text()[:5000])
    again = run_verb("train", *command)
    assert again.code == 0, again
    assert list((workplace / "runs" / "sweeps").iterdir()) == [sweep]
    assert set(states(sweep).values()) == {"done"}
    assert [starts(sweep / run) for run in "0123"] == [1, 1, 1, 1]
    assert_table_is_true(sweep)
    assert "0 runs" not in run_verb("train", *command).out
    assert [starts(sweep / run) for run in "0123"] == [1, 1, 1, 1]
    assert (sweep / "sweep.png").read_bytes().startswith(b"\x89PNG")


def assert_table_is_true(sweep: Path) -> None:
    """The table beside what the runs themselves have logged."""
    with (sweep / "sweep.csv").open() as file:
        table = list(csv.DictReader(file))
    losses = [float(row["best_val_loss"]) for row in table]
    assert losses == sorted(losses)
    assert {(row["data.path"], row["optimizer.lr"]) for row in table} == {
        (text, rate) for text in ("a.txt", "b.txt") for rate in ("0.001", "0.003")
    }
    for row in table:
        with (sweep / row["run"] / "metrics.csv").open() as file:
            logged = [float(line["val/loss"]) for line in csv.DictReader(file) if line["val/loss"]]
        assert float(row["best_val_loss"]) == pytest.approx(min(logged), rel=1e-5)


@contextlib.contextmanager
def when_saved(sweep: Path, act: Callable[[Path], None]) -> Iterator[None]:
    """Do something as soon as the first run has a checkpoint."""

    def wait() -> None:
        deadline = time.monotonic() + 120
        while not list((sweep / "0").glob("checkpoints/step-*.ckpt")):
            if time.monotonic() > deadline:
                return
            time.sleep(0.01)
        act(sweep / "0")

    thread = threading.Thread(target=wait)
    thread.start()
    yield
    thread.join()


def kill(run: Path) -> None:
    os.kill(Status.read(run).pid, signal.SIGKILL)


LONG = ["trainer.max_steps=400", "callbacks.checkpoint.every_n_steps=5", "hydra.sweep.dir=sweep"]


@pytest.mark.slow
def test_a_killed_run_is_named_and_goes_on_from_its_checkpoint(
    run_verb: Run, small_text: Path, workplace: Path
) -> None:
    command = ["-m", *SHORT, f"data.path={small_text}", *LONG, "seed=1,2"]
    with when_saved(workplace / "sweep", kill):
        outcome = run_verb("train", *command)
    assert outcome.code == 1
    assert states(workplace / "sweep") == {"0": "failed", "1": "done"}
    assert "ended by SIGKILL" in Status.read(workplace / "sweep" / "0").error
    assert run_verb("train", *command).code == 0
    assert states(workplace / "sweep") == {"0": "done", "1": "done"}
    assert "resuming from step-" in (workplace / "sweep" / "0" / "train.log").read_text()
    assert starts(workplace / "sweep" / "1") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_stops_the_whole_sweep_and_says_how_to_go_on(
    run_verb: Run, small_text: Path, workplace: Path, number: signal.Signals
) -> None:
    command = ["-m", *SHORT, f"data.path={small_text}", *LONG, "seed=1,2"]
    with when_saved(workplace / "sweep", lambda _: os.kill(os.getpid(), number)):
        outcome = run_verb("train", *command)
    assert outcome.code == 128 + number
    assert states(workplace / "sweep") == {"0": "stopped", "1": "waiting"}
    assert "to resume:\n  python train.py -m" in outcome.out
    assert "hydra.sweep.dir=sweep seed=1,2" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["optimizer.lrr=1,2"], "optimizer.lrr: unknown key; did you mean optimizer.lr?"),
        (["model.n_embd=32,33"], "(with model.n_embd=33)"),
        (["trainer=ddp_cpu", "batch_size=4,5"], "5 does not divide among 2 processes"),
        (["optimizer.lr=interval(1e-4,1e-2)"], "gpt2-lightning sweep"),
        (["model=tiny,tinny"], "did you mean tiny?"),
        (["resume=auto", "seed=1,2"], "cannot distinguish the jobs of a sweep"),
        (["plan=true", "seed=1,2"], "plan: it is of a single run"),
        (["run_dir=here", "seed=1,2"], "run_dir: each run has its own in the sweep's folder"),
    ],
)  # fmt: skip
def test_a_fault_of_any_run_is_told_before_the_first(
    run_verb: Run, workplace: Path, arguments: list[str], expected: str
) -> None:
    outcome = run_verb("train", "-m", "model=tiny", *arguments)
    assert outcome.code == 2
    assert expected in outcome.err
    assert not (workplace / "runs").exists()


@pytest.mark.slow
def test_more_values_add_runs_to_the_same_folder(run_verb: Run, small_text: Path, workplace: Path) -> None:
    common = ["-m", *SHORT, f"data.path={small_text}", "hydra.sweep.dir=sweep"]
    assert run_verb("train", *common, "seed=1").code == 0
    assert run_verb("train", *common, "seed=2,1").code == 0
    assert [Status.read(workplace / "sweep" / run).settings["seed"] for run in "01"] == ["1", "2"]
    assert [starts(workplace / "sweep" / run) for run in "01"] == [1, 1]


def test_a_launcher_that_is_not_installed_is_named_with_its_extra(
    run_verb: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid.importlib.util, "find_spec", lambda _: None)
    for launcher in ("slurm", "joblib", "ray"):
        outcome = run_verb("train", "-m", "model=tiny", "seed=1,2", f"hydra/launcher={launcher}")
        assert outcome.code == 2
        assert outcome.err.endswith(f"is not installed; pip install 'gpt2-lightning[{launcher}]'\n")


@pytest.mark.slow
def test_joblib_starts_the_runs(run_verb: Run, small_text: Path, workplace: Path) -> None:
    """One at a time: more take as many processes of joblib's own, each of which imports torch."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    joblib = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=1"]
    settings = [*joblib, "hydra.sweep.dir=sweep", f"data.path={small_text}", "seed=1,2"]
    outcome = run_verb("train", "-m", *SHORT, *settings)
    assert outcome.code == 0, outcome
    assert states(workplace / "sweep") == {"0": "done", "1": "done"}


def test_a_digest_is_of_what_a_run_computes() -> None:
    plain = {"optimizer": {"lr": 0.1}, "run_dir": "a", "resume": "never"}
    assert digest_of("train", plain) == digest_of("train", {**plain, "run_dir": "b", "resume": "here"})
    assert digest_of("train", plain) != digest_of("train", {**plain, "optimizer": {"lr": 0.2}})
    assert digest_of("train", plain) != digest_of("finetune", plain)


def test_a_sweep_of_the_version_with_another_default_precision_continues() -> None:
    """That default, fp32, equals the present one on CPUs; a digest of it is written as it was then."""
    auto, fp32, bf16 = ({"trainer": {"precision": name}} for name in ("auto", "fp32", "bf16"))
    then = hashlib.sha256(b'["train", {"trainer": {"precision": "fp32"}}]').hexdigest()[:16]
    assert digest_of("train", auto) == then
    assert len({then, digest_of("train", fp32), digest_of("train", bf16)}) == 3, "a sweep over precisions has them all"


def test_a_sweep_is_found_by_its_settings_and_never_shares_a_new_folder(tmp_path: Path) -> None:
    new = tmp_path / "time"
    assert folders.find_or_name(new, "a") == new
    folders.sign(new, "a", "command")
    assert folders.find_or_name(tmp_path / "later", "a") == new
    assert folders.find_or_name(new, "b") == tmp_path / "time-1"


def test_an_error_of_a_sweep_names_its_file(run_verb: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> NoReturn:
        raise OSError(errno.EIO, "Input/output error", "sweep/sweep.csv")

    monkeypatch.setattr(grid.Grid, "sweep", fail)
    outcome = run_verb("train", "-m", *SHORT, "seed=1,2")
    assert outcome.code == 2, outcome
    assert outcome.err == "error: sweep/sweep.csv cannot be read or written: Input/output error\n"


def test_a_run_whose_status_cannot_be_written_ends_without_a_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device", "status.json")

    monkeypatch.setattr(forkserver, "enter", lambda environment: None)
    monkeypatch.setattr(os, "setpgid", lambda *_: None)
    monkeypatch.setattr(Status, "read", fail)
    with pytest.raises(SystemExit) as stop:
        job_process._job_main("train", {"run_dir": str(tmp_path)}, HydraConfig.instance().cfg, {})
    assert stop.value.code == 1
    assert capsys.readouterr().err == "error: status.json cannot be written: No space left on device\n"


def test_a_damaged_status_is_named(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text('{"state": ')
    with pytest.raises(UserError, match=r"status\.json cannot be read"):
        Status.read(tmp_path)
