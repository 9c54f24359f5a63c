"""Signals at a given step."""

from __future__ import annotations

import signal
from typing import Any

import lightning as L


class RaiseSignal(L.Callback):
    """Sends signals to this process at a step, or at the start of its first micro-batch that is no first one."""

    def __init__(
        self, step: int, number: int = signal.SIGINT, hook: str = "on_train_batch_end", times: int = 1
    ) -> None:
        self.step, self.number, self.hook, self.times = step, number, hook, times
        self.micro_batches = 0

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self._raise_at(trainer, "on_train_batch_start", self.micro_batches % trainer.accumulate_grad_batches != 0)
        self.micro_batches += 1

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self._raise_at(trainer, "on_train_batch_end")

    def on_validation_start(self, trainer: L.Trainer, *_: Any) -> None:
        self._raise_at(trainer, "on_validation_start")

    def _raise_at(self, trainer: L.Trainer, hook: str, condition: bool = True) -> None:
        if hook == self.hook and trainer.global_step == self.step and condition:
            self.step = -1
            for _ in range(self.times):
                signal.raise_signal(self.number)
