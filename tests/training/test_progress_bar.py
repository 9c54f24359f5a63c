"""The progress bar in terminals of several widths."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from gpt2_lightning.training.callbacks import Metrics, ProgressBar, progress

FIGURES = {"train/loss": 1.6123, "val/loss": 1.7345, "tokens_per_second": 12_345.6, "peak_memory_gb": 0.81}


@pytest.mark.parametrize("width", [60, 80, 100, 160])
@pytest.mark.parametrize("steps", [3_000, 300_000])
def test_the_bar_keeps_step_and_time_left(monkeypatch: pytest.MonkeyPatch, width: int, steps: int) -> None:
    shown = io.StringIO()
    console = Console(file=shown, width=width, force_terminal=True, color_system=None, legacy_windows=False)
    monkeypatch.setattr(progress, "get_console", lambda: console)
    metrics = Metrics(10)
    metrics.latest = FIGURES
    bar = ProgressBar(metrics)
    trainer = SimpleNamespace(is_global_zero=True, max_steps=steps, global_step=62)
    bar.on_train_start(trainer, None)  # type: ignore[arg-type]  # all that it reads
    bar.on_validation_start(trainer, None)  # type: ignore[arg-type]
    bar.on_train_end(trainer, None)  # type: ignore[arg-type]
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue()).splitlines()
    line = next(line for line in reversed(lines) if "validating" in line)
    assert re.search(rf"\b62/{steps} +0:00:0\d +-:--:-- loss", line), line
    if width >= 80:
        assert "loss 1.612  val 1.73" in line
    if width == 160:
        assert "12,346 tok/s  0.8 GB" in line
