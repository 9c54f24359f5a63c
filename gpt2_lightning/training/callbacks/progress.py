"""The progress bar."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
from rich import get_console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from gpt2_lightning.training.callbacks.measurements.metrics import Metrics
from gpt2_lightning.training.validation import EVAL_LOSS

_SECONDS_BETWEEN_UPDATES = 0.25


class ProgressBar(L.Callback):
    """Display steps, time left and the latest metrics, updated four times a second; nothing outside of a terminal.

    Args:
        metrics: source of the displayed metrics.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._bar: Progress | None = None
        self._next_update = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        console = get_console()
        if not (console.is_terminal and trainer.is_global_zero):
            return
        self._bar = Progress(
            *_columns(),
            console=console,
            expand=True,
            refresh_per_second=1 / _SECONDS_BETWEEN_UPDATES,
            transient=True,
        )
        self._bar.add_task("training", total=trainer.max_steps, completed=trainer.global_step, figures="")
        self._bar.start()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if self._bar and time.monotonic() >= self._next_update:
            self._next_update = time.monotonic() + _SECONDS_BETWEEN_UPDATES
            self._update(trainer, "training")

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._update(trainer, "validating")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._update(trainer, "training")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._close()

    def on_exception(self, *_: Any) -> None:
        self._close()

    def _update(self, trainer: L.Trainer, description: str) -> None:
        if self._bar:
            self._bar.update(
                self._bar.task_ids[0],
                description=description,
                completed=trainer.global_step,
                figures=_figures(self.metrics.latest),
            )

    def _close(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None


class _FiguresColumn(ProgressColumn):
    """The latest metrics, cut off where the terminal is too narrow for them."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["figures"], no_wrap=True, overflow="ellipsis")


def _columns() -> list[ProgressColumn]:
    """The columns. In a narrow terminal the bar shrinks first, then the metrics; step and times are always whole."""
    whole = Column(no_wrap=True)
    return [
        TextColumn("{task.description}", table_column=whole),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        MofNCompleteColumn(table_column=whole),
        TimeElapsedColumn(table_column=whole),
        TimeRemainingColumn(table_column=whole),
        _FiguresColumn(),
    ]


def _figures(latest: dict[str, float]) -> str:
    shown = []
    if "train/loss" in latest:
        shown.append(f"loss {latest['train/loss']:.3f}")
    if EVAL_LOSS in latest:
        shown.append(f"eval {latest[EVAL_LOSS]:.3f}")
    if "val/loss" in latest:
        shown.append(f"val {latest['val/loss']:.3f}")
    if "tokens_per_second" in latest:
        shown.append(f"{latest['tokens_per_second']:,.0f} tok/s")
    if "mfu" in latest:
        shown.append(f"MFU {latest['mfu']:.0%}")
    if "peak_memory_gb" in latest:
        shown.append(f"{latest['peak_memory_gb']:.1f} GB")
    return "  ".join(shown)
