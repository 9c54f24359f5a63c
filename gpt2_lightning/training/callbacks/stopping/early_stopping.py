"""Early stopping on the validation loss."""

from __future__ import annotations

import logging

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping as LightningEarlyStopping

from gpt2_lightning.settings import NonNegativeFloat, PositiveInt, checked

log = logging.getLogger(__name__)


class EarlyStopping(LightningEarlyStopping):
    """Stop training when the validation loss has not decreased for `patience` validations.

    Args:
        patience: validations without a lower loss before training stops.
        min_delta: smallest decrease of the loss, in nats, that counts.

    Raises:
        ValueError: if settings are out of range; the message contains all of them.
    """

    @checked
    def __init__(self, patience: PositiveInt = 5, min_delta: NonNegativeFloat = 0.0) -> None:
        super().__init__("val_loss", min_delta=min_delta, patience=patience, verbose=False)

    @property
    def state_key(self) -> str:
        """Key of the state in checkpoints, which is independent of the name of the loss."""
        return "EarlyStopping{'monitor': 'val/loss', 'mode': 'min'}"

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if self.stopped_epoch or self.wait_count >= self.patience:
            log.info("stopping early: the validation loss has not fallen for %d validations", self.wait_count)
