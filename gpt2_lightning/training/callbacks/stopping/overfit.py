"""Overfitting a single batch: the first test of a model and its training loop."""

from __future__ import annotations

import logging
import math
from typing import Any

import lightning as L
import torch

from gpt2_lightning.data.sampling.base_datamodule import SampleDataModule
from gpt2_lightning.errors import UserError
from gpt2_lightning.settings import PositiveFloat, checked
from gpt2_lightning.training.lightning_module import TrainingModule

log = logging.getLogger(__name__)


class Overfit(L.Callback):
    """Train on the samples of the first step only, without dropout, until their loss is near zero.

    Args:
        loss: threshold below which the mean loss of a step ends training, in the unit of the task's loss.

    Raises:
        ValueError: if the loss is not above 0.
    """

    @checked
    def __init__(self, loss: PositiveFloat = 0.1) -> None:
        self.loss = loss
        self._first: float | None = None
        self._last = math.inf
        self._of_micro_batches: list[torch.Tensor] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it in fit and does not declare it
        assert isinstance(data, SampleDataModule)
        data.repeat_first_step = True

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        pl_module.eval()  # with dropout, the loss would not approach zero
        is_last_of_step = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if self._last < self.loss and is_last_of_step:
            trainer.should_stop = True  # before the step, so that the metrics of its end include the validation

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, TrainingModule)
        self._of_micro_batches.append(outputs["loss"] * trainer.accumulate_grad_batches)
        if len(self._of_micro_batches) == trainer.accumulate_grad_batches:
            self._last = pl_module.mean_over_ranks(self._of_micro_batches)
            self._first = self._last if self._first is None else self._first
            self._of_micro_batches = []

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report the result.

        Raises:
            UserError: if the loss was not reached.
        """
        first, steps = self._first or math.nan, f"{trainer.global_step:,}"
        if not self._last < self.loss:
            raise UserError(
                f"debug=overfit: the loss of one batch went from {first:.4f} to {self._last:.4f} in {steps} steps and "
                f"not below callbacks.overfit.loss={self.loss:g}; try another optimizer.lr or more trainer.max_steps, "
                "set task.label_smoothing to 0, and if that does not help look for a fault in the model or its data"
            )
        log.info(
            "overfit: the loss of one batch fell from %.4f to %.4f, below %g, in %s steps",
            first, self._last, self.loss, steps,
        )  # fmt: skip
