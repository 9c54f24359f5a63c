"""Optimizers by their options, in all verbs that train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpt2_lightning.checkpoints import files
from tests.app.tiny_runs import TINY, newest_run
from tests.training.logged import in_tensorboard

Run = Callable[..., Any]
SHORT = ["trainer=cpu", "trainer.max_steps=4", "trainer.val_check_interval=2", "batch_size=4"]


def test_both_rates_follow_one_setting(run_verb: Run, workplace: Path) -> None:
    rates = ["optimizer=muon", "optimizer.lr=0.01", "schedule=constant", "schedule.warmup_steps=0"]
    log = ["trainer.max_steps=2", "trainer.log_every_n_steps=1", "callbacks.samples=null", "run_dir=here"]
    outcome = run_verb("train", *TINY[:3], *rates, *log)
    assert outcome.code == 0, outcome
    header, row, *_ = (line.split(",") for line in (workplace / "here" / "metrics.csv").read_text().splitlines())
    found = dict(zip(header, row, strict=True))
    assert (float(found["lr"]), float(found["muon_lr"])) == (0.01, pytest.approx(0.05))


def test_an_adapter_trains_by_muon(run_verb: Run, small_text: Path, tiny_run: Path, workplace: Path) -> None:
    source = ["task=pretrain", "data=text", f"data.path={small_text}", f"init_from={tiny_run}", "name=tuned"]
    settings = ["optimizer=muon", "lora=attention", "callbacks.samples=null", "trainer.max_epochs=null"]
    outcome = run_verb("finetune", *source, *settings, *SHORT)
    assert outcome.code == 0, outcome
    saved = files.read(newest_run(workplace / "runs" / "tuned") / "checkpoints" / "step-000004.ckpt")
    (state,) = saved["optimizer_states"]
    assert all(set(entry) == {"momentum_buffer"} for entry in state["state"].values())
    assert len(state["state"]) == len(saved["state_dict"])


def test_loggers_get_what_a_task_draws(run_verb: Run, tiny_run: Path, workplace: Path) -> None:
    pytest.importorskip("tensorboard")
    lines = [f"{label},the {word} goes over" for label, word in (("a", "star"), ("b", "sea")) for _ in range(20)]
    (workplace / "rows.csv").write_text("\n".join(["label,text", *lines]))
    source = ["task=classify", "data=table", "data.path=rows.csv", f"init_from={tiny_run}", "run_dir=here"]
    outcome = run_verb("finetune", *source, *SHORT, "trainer.max_epochs=null", "logger=[csv,tensorboard]")
    assert outcome.code == 0, outcome
    stored = in_tensorboard(workplace / "here")
    assert stored.pictures == {picture.stem for picture in (workplace / "here").glob("*.png")}
    assert stored.pictures >= {"loss", "confusion", "reliability"}
    assert "val/accuracy" in stored.scalars


def test_a_run_does_not_go_on_with_another_optimizer(run_verb: Run, tiny_run: Path, small_text: Path) -> None:
    settings = ["data=text", f"data.path={small_text}", *TINY[:3], f"resume={tiny_run}", "trainer.max_steps=14"]
    outcome = run_verb("train", *settings, "optimizer=muon")
    assert outcome.code == 2
    assert "holds the state of gpt2_lightning.training.optimizers.AdamW, the configuration has" in outcome.err
    outcome = run_verb("train", *settings, "optimizer.groups.wte.lr_scale=0.5")
    assert outcome.code == 2
    assert "has optimizer.groups for [], the configuration for ['wte']; their values may change" in outcome.err


@pytest.mark.parametrize(
    ("override", "fragment"),
    [
        ("optimizer.muon_lr=-1", "optimizer.muon_lr: -1 is out of range"),
        ("optimizer.ns_steps=0", "optimizer.ns_steps: 0 is out of range, 1 to 99 is allowed"),
        ("optimizer.adjust_lr_fn=some", "optimizer.adjust_lr_fn: 'some' does not fit; it must be 'original' or"),
        ("optimizer.groups.wte.lr_scle=1", "it must be 'lr_scale' or 'weight_decay'"),
        ("optimizer.groups.wte.lr_scale=-1", "optimizer.groups.wte.lr_scale: -1 is out of range"),
        ("optimizer.groups.wtte.lr_scale=1", "optimizer.groups: 'wtte' is found in no parameter's name"),
        ("optimizer=moun", "did you mean muon?"),
    ],
)
def test_faults_are_named(run_verb: Run, override: str, fragment: str) -> None:
    outcome = run_verb("train", *TINY[:3], "optimizer=muon", override)
    assert outcome.code == 2
    assert fragment in outcome.err
