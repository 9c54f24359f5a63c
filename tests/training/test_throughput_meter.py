"""Speed, MFU and time left, by a clock that the tests turn, and in real runs."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch

from gpt2_lightning.model import GPT2
from gpt2_lightning.model.size import flops_per_token
from gpt2_lightning.training.callbacks.measurements import throughput
from gpt2_lightning.training.callbacks.measurements.throughput import ThroughputMeter, duration
from tests.training.short_run import BLOCK, CONFIG, Plan, Run

Train = Callable[..., Run]


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(throughput, "time", clock)
    return clock


def stage(step: int, tokens: int, max_steps: int = 100) -> tuple[Any, Any]:
    """A trainer and a task, as far as a watch looks at them."""
    trainer = SimpleNamespace(
        global_step=step, max_steps=max_steps, strategy=SimpleNamespace(root_device=torch.device("cpu"))
    )
    return trainer, SimpleNamespace(model=GPT2(CONFIG), data=SimpleNamespace(tokens_seen=tokens))


BATCH = (torch.zeros(3, BLOCK, dtype=torch.int64),)


def test_figures_by_hand(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two micro-batches of 3 x 7 tokens in 4 s, beside 16 s for other things; 90 steps of 2 s with those are 900 s."""
    monkeypatch.setattr(throughput, "peak_flops", lambda device, precision: 1e6)
    watch = ThroughputMeter("fp32")
    watch.begin(*stage(step=8, tokens=400))
    for _ in range(2):
        watch.count(BATCH)
        clock.now += 2
        watch.pause()
        clock.now += 8
    figures = watch.figures(*stage(step=10, tokens=442))
    assert figures["tokens_per_second"] == 42 / 4
    assert figures["mfu"] == pytest.approx(42 * flops_per_token(CONFIG) / 4 / 1e6)
    assert figures["seconds_left"] == pytest.approx(90 * 2 * (20 / 4))


def test_a_row_begins_anew_and_the_whole_goes_on(clock: Clock) -> None:
    watch = ThroughputMeter("fp32")
    watch.begin(*stage(step=0, tokens=0))
    for step, seconds in ((1, 1), (2, 3)):
        watch.count(BATCH)
        clock.now += seconds
        found = watch.figures(*stage(step=step, tokens=21 * step))
    assert found["tokens_per_second"] == 21 / 3
    assert "mfu" not in found
    assert watch.whole.figures(None) == {"tokens_per_second": 42 / 4}
    assert watch.whole.steps == 2


def test_what_comes_after_the_last_row_belongs_to_the_whole(clock: Clock) -> None:
    watch = ThroughputMeter("fp32")
    watch.begin(*stage(step=0, tokens=0))
    watch.count(BATCH)
    clock.now += 2
    watch.end(*stage(step=1, tokens=21))
    assert watch.whole.figures(None) == {"tokens_per_second": 21 / 2}


def rows_of(run: Run) -> list[dict[str, str]]:
    with (run.run_dir / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["train/loss"]]


def test_a_run_logs_its_pace(train: Train, tmp_path: Path) -> None:
    rows = rows_of(train(Plan(tmp_path, max_steps=6)))
    assert all(float(row["tokens_per_second"]) > 0 for row in rows)
    left = [float(row["seconds_left"]) for row in rows]
    assert left[0] > 0
    assert left[-1] == 0
    assert 0.05 < float(rows[-1]["peak_memory_gb"]) < 50
    assert "mfu" not in rows[0], "the peak of a CPU is not known"


def test_a_resumed_run_is_measured_from_where_it_goes_on(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(Plan(tmp_path, max_steps=6))
    found: list[int] = []
    of_interval = throughput.Interval.figures
    monkeypatch.setattr(
        throughput.Interval,
        "figures",
        lambda each, peak: found.append(each.tokens) or of_interval(each, peak),
    )
    train(Plan(tmp_path, max_steps=10), resume=tmp_path / "checkpoints" / "step-000004.ckpt")
    assert found == [2 * 6 * BLOCK] * 3


def test_time_for_validation_and_saving_is_none_of_training(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(throughput, "time", clock)

    class Passes(L.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            clock.now += 1

        def on_validation_batch_end(self, *_: Any) -> None:
            clock.now += 100

        def on_save_checkpoint(self, *_: Any) -> None:
            clock.now += 100

    run = train(Plan(tmp_path, max_steps=8, callbacks=[Passes()]))
    assert [float(row["tokens_per_second"]) for row in rows_of(run)] == [6 * BLOCK] * 4


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0412, "0.041 s"),
        (2.34, "2.3 s"),
        (45.4, "45 s"),
        (100, "2 min"),
        (5_400, "90 min"),
        (7_500, "2 h 5 min"),
        (172_700, "2 days 0 h"),
        (356_400, "4 days 3 h"),
    ],
)
def test_durations_as_they_are_said(seconds: float, said: str) -> None:
    assert duration(seconds) == said
