"""One program at a time writes into a run, and a run that was killed is completed."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt2_lightning.app.run.lock import locked
from gpt2_lightning.app.run.reporter import RankZeroReporter
from tests.app.tiny_runs import TINY
from tests.outcomes import Outcome

Run = Callable[..., Outcome]


@pytest.fixture
def settings(small_text: Path) -> list[str]:
    return [*TINY, "data=text", f"data.path={small_text}", "trainer.max_steps=4", "trainer.val_check_interval=2"]


@pytest.fixture
def own_run(tiny_run: Path, workplace: Path) -> Path:
    """A finished run that a test may write to."""
    run = workplace / "runs" / "text-tiny" / "first"
    shutil.copytree(tiny_run, run)
    return run


@pytest.mark.parametrize("resume", ["auto", "must", "runs/text-tiny/first", "here"])
def test_a_run_in_progress_is_not_resumed_by_a_second_program(
    run_verb: Run, settings: list[str], own_run: Path, resume: str
) -> None:
    before = {file: file.read_bytes() for file in own_run.rglob("*") if file.is_file()}
    with locked(own_run):
        outcome = run_verb("train", *settings, "trainer.max_steps=14", f"resume={resume}", f"run_dir={own_run}")
    assert outcome.code == 2, outcome
    assert f"runs/text-tiny/first is in use by process {os.getpid()} on {socket.gethostname()}" in outcome.err
    assert {file: file.read_bytes() for file in own_run.rglob("*") if file.is_file()} == before
    assert [*own_run.parent.iterdir()] == [own_run]


def test_a_run_in_progress_can_be_read_and_others_can_start(run_verb: Run, settings: list[str], own_run: Path) -> None:
    with locked(own_run):
        assert run_verb("generate", f"checkpoint={own_run}", "max_new_tokens=2").code == 0
        assert run_verb("train", *settings, "run_dir=runs/text-tiny/second").code == 0


def test_the_lock_of_a_killed_process_does_not_hold(run_verb: Run, settings: list[str], own_run: Path) -> None:
    (own_run / "run.lock").write_text("1\nelsewhere\n")
    outcome = run_verb("train", *settings, "trainer.max_steps=14", "resume=auto")
    assert outcome.code == 0, outcome
    assert (own_run / "checkpoints" / "step-000014.ckpt").exists()
    assert not (own_run / "run.lock").exists()


def test_temporary_files_of_a_killed_save_are_removed(run_verb: Run, settings: list[str], own_run: Path) -> None:
    left = [own_run / "checkpoints" / ".step-000013.ckpt.71.tmp", own_run / ".samples.md.72@host.tmp"]
    kept = [own_run / "checkpoints" / ".notes.tmp", own_run / ".71.tmp"]
    for file in (*left, *kept):
        file.write_text("part")
    assert run_verb("train", *settings, "trainer.max_steps=14", "resume=auto").code == 0
    assert not any(file.exists() for file in left)
    assert all(file.exists() for file in kept)


@pytest.mark.parametrize("resume", ["auto", pytest.param("runs/text-tiny/first", marks=pytest.mark.slow)])
@pytest.mark.parametrize("early", [[], ["callbacks=early_stopping", "callbacks.early_stopping.min_delta=99"]])
def test_a_run_killed_before_its_report_is_completed_without_training(
    run_verb: Run,
    settings: list[str],
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    resume: str,
    early: list[str],
) -> None:
    settings = [*settings, *early, *(["callbacks.early_stopping.patience=1", "trainer.max_steps=9"] if early else [])]
    run = workplace / "runs" / "text-tiny" / "first"
    with monkeypatch.context() as patch:

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(RankZeroReporter, "on_end", stop)
        assert run_verb("train", *settings, f"run_dir={run}").code == 130
    assert not (run / "loss.png").exists()
    metrics, samples = ((run / name).read_text() for name in ("metrics.csv", "samples.md"))
    outcome = run_verb("train", *settings, f"resume={resume}")
    assert outcome.code == 0, outcome
    assert "training has ended at step 4: what is missing of the report is written" in outcome.out
    assert "done: 512 tokens" in outcome.out
    last_loss = [row.split(",")[4] for row in metrics.splitlines() if row.split(",")[4]][-1]
    assert f"validation loss  {float(last_loss):.4f}" in outcome.out
    assert (run / "loss.png").exists()
    assert [(run / name).read_text() for name in ("metrics.csv", "samples.md")] == [metrics, samples]
    assert [*run.parent.iterdir()] == [run]
    assert run_verb("train", *settings, "resume=auto").code == 0
    assert len([*run.parent.iterdir()]) == 2, "a complete run is followed by a new one"
