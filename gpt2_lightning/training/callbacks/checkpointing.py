"""The callback that saves checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L

from gpt2_lightning.checkpoints import files, folder
from gpt2_lightning.settings import PositiveInt, checked
from gpt2_lightning.training import distributed
from gpt2_lightning.training.callbacks.measurements.metrics import Metrics
from gpt2_lightning.training.callbacks.stopping.step_limit import validation_follows


class Checkpointing(L.Callback):
    """Save a checkpoint every n steps, at the end, and whenever the monitored metric is the best so far.

    If a validation follows a step, the checkpoint of that step is saved after it, so that a resumed run skips no
    validation. A run resumed from an earlier checkpoint than its newest sets the later ones aside.

    Args:
        run_dir: the run's folder; see `checkpoints.folder` for its layout.
        every_n_steps: optimizer steps between two checkpoints.
        keep: number of step checkpoints to keep.

    Raises:
        ValueError: if a number is below 1.
    """

    @checked
    def __init__(self, run_dir: Path, every_n_steps: PositiveInt = 500, keep: PositiveInt = 1) -> None:
        self.run_dir = run_dir
        self.every_n_steps, self.keep = every_n_steps, keep
        self._last_seen_step = 0
        self._best_step = -1

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_seen_step = trainer.global_step
        if trainer.is_global_zero:
            folder.set_aside_after(self.run_dir, trainer.global_step)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        stepped = trainer.global_step != self._last_seen_step
        self._last_seen_step = trainer.global_step
        if stepped and not validation_follows(trainer):
            self._save_if_due(trainer, Metrics.of(trainer).is_best)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save_if_due(trainer, Metrics.of(trainer).is_best)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save_if_due(trainer, Metrics.of(trainer).is_best)  # which may be measured after the last validation

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._remove_old(trainer)  # also after a kill between the last checkpoint and the removal of the one before

    def save_step(self, trainer: L.Trainer, saved: Path | None = None) -> Path:
        """Save a checkpoint of the current step, and delete the oldest beyond `keep`.

        Args:
            trainer: the Trainer, at the end of a step.
            saved: another file with this checkpoint, to link to.
        """
        checkpoint = self._path(folder.step_name(trainer.global_step))
        if not distributed.broadcast(checkpoint.exists):
            if saved is None:
                trainer.save_checkpoint(checkpoint)
            elif trainer.is_global_zero:
                files.link(saved, checkpoint)
        self._remove_old(trainer)
        return checkpoint

    def _save_if_due(self, trainer: L.Trainer, is_best: bool) -> None:
        best = self._path(folder.BEST)
        if is_best and self._best_step != trainer.global_step:
            # First: a run that is killed here resumes from an earlier step, and saves it again.
            trainer.save_checkpoint(best)
            self._best_step = trainer.global_step
        if trainer.should_stop or trainer.global_step % self.every_n_steps == 0:
            self.save_step(trainer, best if is_best else None)

    def _remove_old(self, trainer: L.Trainer) -> None:
        if trainer.is_global_zero:
            for old in folder.by_step(self.run_dir)[: -self.keep]:
                old.unlink()

    def _path(self, name: str) -> Path:
        return self.run_dir / folder.FOLDER / name
