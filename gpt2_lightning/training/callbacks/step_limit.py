"""The end of a run."""

from __future__ import annotations

from typing import Any

import lightning as L


class StepLimit(L.Callback):
    """Asks Lightning to stop after the last step, which makes it validate once more; at `max_steps` it would not."""

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True


def validation_follows(trainer: L.Trainer) -> bool:
    """Whether Lightning validates after the optimizer step that has just ended."""
    batches = trainer.val_check_batch
    assert batches is not None, "validation goes by steps, not by time"
    interval = int(batches) // trainer.accumulate_grad_batches
    return trainer.should_stop or trainer.global_step % interval == 0
