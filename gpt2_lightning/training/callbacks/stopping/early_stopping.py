"""Early stopping by the monitored metric."""

from __future__ import annotations

import logging
import math
from typing import Any

import lightning as L
import torch

from gpt2_lightning.settings import NonNegativeFloat, PositiveInt, checked
from gpt2_lightning.training.callbacks.measurements.metrics import Metrics
from gpt2_lightning.training.callbacks.stopping.step_limit import validation_follows
from gpt2_lightning.training.metrics.monitor import VAL_LOSS, Monitor

log = logging.getLogger(__name__)


class EarlyStopping(L.Callback):
    """Stop training when the monitored metric, the validation loss by default, has not improved for long.

    The metric is judged at every validation, or at the steps at which its callback measures it.

    Args:
        patience: measurements without a better value before training stops.
        min_delta: smallest improvement that counts, in the unit of the metric.

    Raises:
        ValueError: if settings are out of range; the message contains all of them.
    """

    @checked
    def __init__(self, patience: PositiveInt = 5, min_delta: NonNegativeFloat = 0.0) -> None:
        self.patience, self.min_delta = patience, min_delta
        self.monitor = Monitor()
        self.wait_count = 0
        self.best: float | None = None
        self._judged_at = -1
        """Step of the last measurement, which is judged once where it ends the run before a validation."""

    @property
    def state_key(self) -> str:
        """Key of the state in checkpoints, the same for all metrics."""
        return "EarlyStopping{'monitor': 'val/loss', 'mode': 'min'}"

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.monitor = Metrics.of(trainer).monitor

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if not validation_follows(trainer):
            self._judge(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._judge(trainer)

    def state_dict(self) -> dict[str, Any]:
        best = math.inf if self.best is None else self.best
        monitor = {} if self.best is None else {self.monitor.metric: self.monitor.mode}
        score = torch.tensor(best, dtype=torch.float64)
        return {"wait_count": self.wait_count, "best_score": score, "monitor": monitor}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the count, unless it is of another metric."""
        if self.monitor.metric not in (state_dict.get("monitor") or {VAL_LOSS: "min"}):
            return
        best = float(state_dict["best_score"])
        self.wait_count, self.best = state_dict["wait_count"], best if math.isfinite(best) else None

    def _judge(self, trainer: L.Trainer) -> None:
        value = Metrics.of(trainer).measured
        if value is None or self._judged_at == trainer.global_step:
            return
        self._judged_at = trainer.global_step
        if self.monitor.improves(value, self.best, self.min_delta):
            self.best, self.wait_count = value, 0
            return
        self.wait_count += 1
        if self.wait_count >= self.patience:
            trainer.should_stop = True
            log.info("stopping early: %s has not improved %d times in a row", self.monitor.metric, self.wait_count)
