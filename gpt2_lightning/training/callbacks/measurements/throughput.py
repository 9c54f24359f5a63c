"""Throughput, MFU, remaining time and peak memory of a run."""

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
"""Possible keys of `ThroughputMeter.figures`; all values depend on the clock or the machine."""


@dataclass
class Interval:
    """Counts over an interval of a run."""

    seconds: float = 0.0
    """Time spent on training steps."""
    tokens: int = 0
    """Training tokens of all ranks."""
    steps: int = 0
    flops: int = 0
    """FLOPs of the model on this rank."""

    def add(self, other: Interval) -> None:
        self.seconds += other.seconds
        self.tokens += other.tokens
        self.steps += other.steps
        self.flops += other.flops

    def figures(self, peak: float | None) -> dict[str, float]:
        """Return tokens per second, and the MFU if the device's peak, in FLOP/s, is known."""
        seconds = max(self.seconds, 1e-9)
        found = {"tokens_per_second": self.tokens / seconds}
        return found if peak is None else found | {"mfu": self.flops / seconds / peak}


class ThroughputMeter:
    """Measure the throughput of training steps, excluding validation, samples, logging and checkpoints.

    The cost per micro-batch is two additions; everything else is computed in `figures`. The measurements of a resumed
    run begin at the step from which it resumes.

    Args:
        precision: precision of the run; not `auto`.
    """

    def __init__(self, precision: Precision) -> None:
        self.precision = precision
        self.peak_flops: float | None = None
        """Peak FLOP/s of the device; None if unknown."""
        self.whole = Interval()
        """The run from its start or resume to the last call of `figures` or `end`."""
        self._since = Interval()
        self._work, self._device = Work(0, 0), torch.device("cpu")
        self._began = 0.0
        self._runs_from: float | None = None
        self._tokens = self._step = 0

    def begin(self, trainer: L.Trainer, task: TrainingModule[Any, Any]) -> None:
        """Start the measurement: record the model's FLOPs, the device, and the current tokens and step."""
        self._work, self._device = training_work(task.model), trainer.strategy.root_device
        self.peak_flops = peak_flops(self._device, self.precision)
        self._tokens, self._step = task.data.tokens_seen, trainer.global_step
        self._began = time.perf_counter()
        memory.reset_peak(self._device)

    def count(self, batch: Any) -> None:
        """Count a micro-batch, whose first column is (B, T), and resume the clock."""
        rows, width = batch[0].shape
        self._since.flops += rows * width * self._work.per_token(width)
        self.go_on()

    def go_on(self) -> None:
        """Resume the clock."""
        if self._runs_from is None:
            self._runs_from = time.perf_counter()

    def pause(self) -> None:
        """Pause the clock."""
        if self._runs_from is None:
            return
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # kernels run asynchronously
        self._since.seconds += time.perf_counter() - self._runs_from
        self._runs_from = None

    def figures(self, trainer: L.Trainer, task: TrainingModule[Any, Any]) -> dict[str, float]:
        """Return the metrics since the last call, see `METRICS`, without unknown ones, and pause the clock.

        MFU is the model's FLOP/s as a fraction of the device's peak (Chowdhery et al. 2022, appendix B); padding is
        computed and counted. The remaining seconds include validations and checkpoints at the rate observed so far.
        Peak memory, in GB, is that of this rank.
        """
        since = self._close(task.data.tokens_seen, trainer.global_step)
        in_all = (time.perf_counter() - self._began) / max(self.whole.seconds, 1e-9)
        seconds_a_step = since.seconds / max(since.steps, 1)
        found = since.figures(self.peak_flops)
        found["seconds_left"] = in_all * seconds_a_step * (trainer.max_steps - trainer.global_step)
        return found if (most := memory.peak(self._device)) is None else found | {"peak_memory_gb": most / 1e9}

    def end(self, trainer: L.Trainer, task: TrainingModule[Any, Any]) -> None:
        """Add the interval since the last row to `whole`."""
        self._close(task.data.tokens_seen, trainer.global_step)

    def _close(self, tokens: int, step: int) -> Interval:
        self.pause()
        since, self._since = self._since, Interval()
        since.tokens, since.steps = tokens - self._tokens, step - self._step
        self._tokens, self._step = tokens, step
        self.whole.add(since)
        return since


def duration(seconds: float) -> str:
    """Format a duration: `45 s`, `3 min`, `2 h 5 min`, `4 days 3 h`."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if hours < 48 else f"{hours // 24:,} days {hours % 24} h"
