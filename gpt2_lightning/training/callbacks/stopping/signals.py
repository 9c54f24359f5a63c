"""The callback that stops a run after Ctrl-C or SIGTERM."""

from __future__ import annotations

from typing import Any

import lightning as L

from gpt2_lightning.training import distributed
from gpt2_lightning.training.callbacks.checkpointing import Checkpointing
from gpt2_lightning.training.callbacks.stopping.step_limit import validation_follows
from gpt2_lightning.training.interrupts import Interrupted, SignalWatch
from gpt2_lightning.training.spikes import RollBack


class Signals(L.Callback):
    """Stop the run after the step in which a signal was received, and after its validation if one is due.

    All ranks stop after the same step, whichever rank received the signal. Ranks agree on the CPU, once per step, in
    place of Lightning's broadcast before each micro-batch, for which a GPU would have to complete all queued work.

    Args:
        checkpointing: saves a checkpoint before the run stops; None if checkpoints are disabled.
    """

    def __init__(self, checkpointing: Checkpointing | None) -> None:
        self.checkpointing = checkpointing
        self._watch = SignalWatch()
        self._last_seen_step = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_seen_step = trainer.global_step
        self._watch.start()
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]  # see above

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        stepped = trainer.global_step != self._last_seen_step
        self._last_seen_step = trainer.global_step
        if stepped and not validation_follows(trainer):
            self._stop_if_asked(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.should_stop:  # a run that ends at this step needs no stop
            self._stop_if_asked(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._watch.stop()

    def on_exception(self, *_: Any) -> None:
        self._watch.stop()

    def _stop_if_asked(self, trainer: L.Trainer) -> None:
        received = distributed.largest(self._watch.received or 0)
        if received:
            raise Interrupted(received, saved=self._save(trainer))

    def _save(self, trainer: L.Trainer) -> bool:
        if self.checkpointing is None:
            return False
        try:
            self.checkpointing.save_step(trainer)
        except RollBack:  # the resumed run finds the same spike, and goes back then
            return False
        return True
