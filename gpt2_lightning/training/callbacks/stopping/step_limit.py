"""Whether an optimizer step is the last, and whether a validation follows it."""

from __future__ import annotations

import lightning as L


def is_last_step(trainer: L.Trainer) -> bool:
    """Whether the run ends after the current optimizer step."""
    return trainer.should_stop or 0 < trainer.max_steps <= trainer.global_step


def validation_follows(trainer: L.Trainer) -> bool:
    """Whether Lightning validates after the current optimizer step."""
    batches = trainer.val_check_batch
    assert batches is not None, "validation goes by steps, not by time"
    interval = int(batches) // trainer.accumulate_grad_batches
    return is_last_step(trainer) or trainer.global_step % interval == 0
