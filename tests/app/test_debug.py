"""The presets of `debug`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.app.tiny_runs import TINY

Run = Callable[..., Any]


@pytest.fixture
def small(small_text: Path) -> list[str]:
    return [*TINY, "data=text", f"data.path={small_text}"]


def test_fast_goes_through_everything(run_verb: Run, workplace: Path, small: list[str]) -> None:
    outcome = run_verb("train", *small, "debug=fast")
    assert outcome.code == 0, outcome
    (run,) = (workplace / "runs" / "debug-fast").iterdir()
    assert (run / "samples.md").read_text().count("## Step") == 2
    assert {file.name for file in (run / "checkpoints").iterdir()} == {"best.ckpt", "step-000004.ckpt"}
    assert "step 4 of 4" in outcome.out


def test_fast_works_with_finetune(run_verb: Run, workplace: Path) -> None:
    rows = [f"{text},{label}" for text, label in (("good ship", "yes"), ("bad ship", "no"), ("old lamp", "no"))]
    (workplace / "rows.csv").write_text("text,label\n" + "\n".join(rows * 10) + "\n")
    settings = ["task=classify", "data=table", "data.path=rows.csv", "init_from=scratch", "model=tiny"]
    outcome = run_verb("finetune", *settings, "tokenizer=gpt2", "trainer=cpu", "batch_size=2", "debug=fast")
    assert outcome.code == 0, outcome
    assert "step 4 of 4" in outcome.out


def test_overfit_learns_one_batch_despite_dropout(run_verb: Run, small: list[str]) -> None:
    parts = ["micro_batch_size=2", "model.attn_pdrop=0.5", "model.resid_pdrop=0.5", "callbacks.overfit.loss=0.5"]
    outcome = run_verb("train", *small, *parts, "debug=overfit")
    assert outcome.code == 0, outcome
    (first, last) = re.findall(r"fell from ([\d.]+) to ([\d.]+), below 0\.5", outcome.out)[0]
    assert float(first) > 2 > 0.5 > float(last)


def test_overfit_that_fails_names_the_losses(run_verb: Run, small: list[str]) -> None:
    outcome = run_verb("train", *small, "debug=overfit", "trainer.max_steps=2")
    assert outcome.code == 2
    assert re.search(r"from \d\.\d+ to \d\.\d+ in 2 steps and not below callbacks\.overfit\.loss=0\.1", outcome.err)


@pytest.mark.slow
def test_profile_lists_ten_operations_and_leaves_a_trace(run_verb: Run, workplace: Path, small: list[str]) -> None:
    outcome = run_verb("train", *small, "debug=profile", "micro_batch_size=2")
    assert outcome.code == 0, outcome
    listed = re.findall(r"^  (\S.{47}) +[\d.]+ +([\d.]+)% +\d+$", outcome.out, re.MULTILINE)
    assert len(listed) == 10
    shares = [float(share) for _, share in listed]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) <= 100.1
    (run,) = (workplace / "runs" / "debug-profile").iterdir()
    names = {event.get("name") for event in json.loads((run / "trace.json").read_text())["traceEvents"]}
    assert {"aten::addmm", "ProfilerStep#3", "ProfilerStep#7"} <= names


def test_a_profile_needs_enough_steps(run_verb: Run, small: list[str]) -> None:
    outcome = run_verb("train", *small, "debug=profile", "trainer.max_steps=4")
    assert outcome.code == 2
    assert "trainer.max_steps=4" in outcome.err
