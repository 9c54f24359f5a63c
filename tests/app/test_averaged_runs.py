"""Runs with averaged weights, as commands."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.app.tiny_runs import TINY
from tests.outcomes import Outcome


@pytest.mark.slow
def test_a_plan_and_a_search_of_the_micro_batch_count_the_average(
    run_verb: Callable[..., Outcome], workplace: Path, small_text: Path
) -> None:
    text = ["data=text", f"data.path={small_text}", "callbacks=ema"]
    planned = run_verb("train", *TINY, *text, "plan=true")
    assert planned.code == 0, planned.err
    assert re.search(r"average +\S.*of the weights", planned.out)
    outcome = run_verb("train", *TINY, *text, "micro_batch_size=auto", "run_dir=run", "trainer.max_steps=3")
    assert outcome.code == 0, outcome.err
    assert "without averaging)" in outcome.out + outcome.err
    shown = run_verb("generate", "checkpoint=run", "prompt=the", "max_new_tokens=2")
    assert shown.code == 0, shown.err
    assert "exponential moving average of those of 3 steps" in shown.out + shown.err
    assert "val/raw_loss" in (workplace / "run" / "metrics.csv").read_text(encoding="utf-8").splitlines()[0]
