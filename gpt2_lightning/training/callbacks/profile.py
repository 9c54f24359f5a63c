"""Profile of training steps by torch.profiler."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, schedule

from gpt2_lightning.errors import UserError
from gpt2_lightning.settings import PositiveInt, checked

log = logging.getLogger(__name__)

FILE = "trace.json"
"""File name of the trace in the run's folder."""
_LISTED = 10


class Profile(L.Callback):
    """Profile optimizer steps on rank zero, print the operations that take the most time, and write a trace.

    Args:
        run_dir: the run's folder.
        skip_steps: steps before the profile, in which memory is allocated and kernels are selected.
        steps: number of profiled steps.

    Raises:
        ValueError: if settings are out of range; the message contains all of them.
    """

    @checked
    def __init__(self, run_dir: Path, skip_steps: PositiveInt = 3, steps: PositiveInt = 5) -> None:
        self.file = run_dir / FILE
        self.skip_steps, self.steps = skip_steps, steps
        self._profiler: profile | None = None
        self._step = 0
        self._on_cuda = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the profiler.

        Raises:
            UserError: if fewer steps are left than the profile needs.
        """
        self._step = trainer.global_step
        left = trainer.max_steps - self._step
        if left < self.skip_steps + self.steps:
            raise UserError(
                f"callbacks.profile: {self.skip_steps} skipped and {self.steps} profiled steps need "
                f"{self.skip_steps + self.steps} steps, and {left} are left of trainer.max_steps={trainer.max_steps}"
            )
        if not trainer.is_global_zero:
            return
        self._on_cuda = pl_module.device.type == "cuda"
        self._profiler = profile(
            activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._on_cuda else [])],
            schedule=schedule(wait=self.skip_steps - 1, warmup=1, active=self.steps, repeat=1),
            on_trace_ready=self._report,
        )
        self._profiler.start()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if self._profiler is not None and trainer.global_step != self._step:
            self._step = trainer.global_step
            self._profiler.step()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop()

    def on_exception(self, *_: Any) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._profiler is not None:
            self._profiler.stop()
            self._profiler = None

    def _report(self, finished: profile) -> None:
        """Print the table, and write the trace."""
        attribute = "self_device_time_total" if self._on_cuda else "self_cpu_time_total"
        operations = {
            event.key: (getattr(event, attribute), event.count)
            for event in finished.key_averages()
            if event.device_type == DeviceType.CPU and not event.key.startswith("ProfilerStep")
        }
        total = sum(time for time, _ in operations.values()) or 1.0
        dearest = sorted(operations.items(), key=lambda entry: entry[1][0], reverse=True)[:_LISTED]
        device = torch.cuda.get_device_name() if self._on_cuda else "CPU"
        log.info("profile: %.1f ms per step in operations on the %s", total / self.steps / 1000, device)
        log.info("  %-48s %12s %8s %10s", "operation", "ms per step", "share", "calls")
        for name, (time, count) in dearest:
            values = (name[:48], time / self.steps / 1000, time / total, count / self.steps)
            log.info("  %-48s %12.2f %8.1f%% %9.0f", values[0], values[1], 100 * values[2], values[3])
        finished.export_chrome_trace(str(self.file))
        log.info("  trace of %d steps: %s", self.steps, self.file)
