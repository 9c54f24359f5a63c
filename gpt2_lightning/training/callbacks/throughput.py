"""How fast a run is, and what it takes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch

from gpt2_lightning import memory
from gpt2_lightning.model.size import Work, training_work
from gpt2_lightning.training.lightning_module import TrainingModule
from gpt2_lightning.training.performance.peak_flops import peak_flops
from gpt2_lightning.training.precision import Precision

METRICS = ("tokens_per_second", "mfu", "seconds_left", "peak_memory_gb")
"""What `ThroughputMeter.figures` may have; all of it depends on the clock or on the machine."""


@dataclass
class Interval:
    """A part of a run."""

    seconds: float = 0.0
    """Of training alone."""
    tokens: int = 0
    """Learned from, by all processes together."""
    steps: int = 0
    flops: int = 0
    """Of the model, in this process."""

    def add(self, other: Interval) -> None:
        self.seconds += other.seconds
        self.tokens += other.tokens
        self.steps += other.steps
        self.flops += other.flops

    def figures(self, peak: float | None) -> dict[str, float]:
        """Tokens per second, and MFU where the peak of the device is known."""
        seconds = max(self.seconds, 1e-9)
        found = {"tokens_per_second": self.tokens / seconds}
        return found if peak is None else found | {"mfu": self.flops / seconds / peak}


class ThroughputMeter:
    """A watch that stands still while a run validates, writes samples, logs or saves.

    For each micro-batch it adds two numbers, and does all else when it is asked. A run that was resumed is measured
    from where it goes on.

    Args:
        precision: what the run computes in; not `auto`.
    """

    def __init__(self, precision: Precision) -> None:
        self.precision = precision
        self.peak_flops: float | None = None
        """FLOP/s that the device reaches at most; None if unknown."""
        self.whole = Interval()
        """All of the run so far, since it began or went on, as far as it was asked for."""
        self._since = Interval()
        self._work, self._device = Work(0, 0), torch.device("cpu")
        self._began = 0.0
        self._runs_from: float | None = None
        self._tokens = self._step = 0

    def begin(self, trainer: L.Trainer, task: TrainingModule[Any, Any]) -> None:
        """Take note of what is trained on what, and where it stands."""
        self._work, self._device = training_work(task.model), trainer.strategy.root_device
        self.peak_flops = peak_flops(self._device, self.precision)
        self._tokens, self._step = task.data.tokens_seen, trainer.global_step
        self._began = time.perf_counter()
        memory.reset_peak(self._device)

    def count(self, batch: Any) -> None:
        """A micro-batch begins; its first column is (B, T)."""
        rows, width = batch[0].shape
        self._since.flops += rows * width * self._work.per_token(width)
        self.go_on()

    def go_on(self) -> None:
        """What follows is training."""
        if self._runs_from is None:
            self._runs_from = time.perf_counter()

    def pause(self) -> None:
        """What follows is none."""
        if self._runs_from is None:
            return
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # what was asked for is still being computed
        self._since.seconds += time.perf_counter() - self._runs_from
        self._runs_from = None

    def figures(self, trainer: L.Trainer, task: TrainingModule[Any, Any]) -> dict[str, float]:
        """What happened since the last time; see `METRICS`. What is not known is left out. The watch is stopped.

        MFU is the share of the device's peak that the model's FLOPs come to (Chowdhery et al. 2022, appendix B);
        padding is computed and counts. Seconds left have room for as many validations and saves as so far. The peak of
        memory is this process's own.
        """
        since = self._close(task.data.tokens_seen, trainer.global_step)
        in_all = (time.perf_counter() - self._began) / max(self.whole.seconds, 1e-9)
        seconds_a_step = since.seconds / max(since.steps, 1)
        found = since.figures(self.peak_flops)
        found["seconds_left"] = in_all * seconds_a_step * (trainer.max_steps - trainer.global_step)
        return found if (most := memory.peak(self._device)) is None else found | {"peak_memory_gb": most / 1e9}

    def end(self, trainer: L.Trainer, task: TrainingModule[Any, Any]) -> None:
        """Add what has come since the last row to the whole."""
        self._close(task.data.tokens_seen, trainer.global_step)

    def _close(self, tokens: int, step: int) -> Interval:
        self.pause()
        since, self._since = self._since, Interval()
        since.tokens, since.steps = tokens - self._tokens, step - self._step
        self._tokens, self._step = tokens, step
        self.whole.add(since)
        return since


def duration(seconds: float) -> str:
    """As it is said: `45 s`, `3 min`, `2 h 5 min`, `4 days 3 h`."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if hours < 48 else f"{hours // 24:,} days {hours % 24} h"
