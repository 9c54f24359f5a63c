"""The end of a run that no longer gets better."""

from __future__ import annotations

import logging
from typing import Annotated

import lightning as L
from annotated_types import Ge
from lightning.pytorch.callbacks import EarlyStopping as LightningEarlyStopping

from gpt2_lightning.settings import PositiveInt, checked

log = logging.getLogger(__name__)


class EarlyStopping(LightningEarlyStopping):
    """Stops when the validation loss has not fallen for some validations.

    Args:
        patience: validations without a lower loss that are waited for.
        min_delta: nats by which a loss has to be lower to count.

    Raises:
        ValueError: with every setting that is out of range.
    """

    @checked
    def __init__(self, patience: PositiveInt = 5, min_delta: Annotated[float, Ge(0)] = 0.0) -> None:
        super().__init__("val_loss", min_delta=min_delta, patience=patience, verbose=False)

    @property
    def state_key(self) -> str:
        """The name of the state in checkpoints, which is independent of the name of the loss."""
        return "EarlyStopping{'monitor': 'val/loss', 'mode': 'min'}"

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if self.stopped_epoch or self.wait_count >= self.patience:
            log.info("stopping early: the validation loss has not fallen for %d validations", self.wait_count)
