"""The callback that saves checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch

from gpt2_lightning.checkpoints import files, folder
from gpt2_lightning.settings import PositiveInt, checked
from gpt2_lightning.training import distributed
from gpt2_lightning.training.callbacks.measurements.metrics import Metrics
from gpt2_lightning.training.callbacks.stopping.step_limit import validation_follows
from gpt2_lightning.training.saving.checkpoint_io import writes_of
from gpt2_lightning.training.saving.write_queue import WriteQueue


class Checkpointing(L.Callback):
    """Save a checkpoint every n steps, at the end, and whenever the monitored metric is the best so far.

    If a validation follows a step, the checkpoint of that step is saved after it, so that a resumed run skips no
    validation. A run resumed from an earlier checkpoint than its newest sets the later ones aside.

    On a GPU, training continues while a thread writes a copy of the checkpoint from the memory of the host. An error of
    the thread is raised after the next step, or at the end of the run, which waits for the thread.

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
        self._writes = WriteQueue()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_seen_step = trainer.global_step
        self._writes = writes_of(trainer)
        if _saves_in_background(trainer.strategy.root_device):
            self._writes.start()
        if trainer.is_global_zero:
            folder.set_aside_after(self.run_dir, trainer.global_step)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        stepped = trainer.global_step != self._last_seen_step
        self._last_seen_step = trainer.global_step
        self._writes.check()
        if stepped and not validation_follows(trainer):
            self._save_if_due(trainer, Metrics.of(trainer).is_best)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save_if_due(trainer, Metrics.of(trainer).is_best)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save_if_due(trainer, Metrics.of(trainer).is_best)  # which may be measured after the last validation
        self._writes.wait()

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Also after a kill between the last checkpoint and the removal of the one before, or, where the one before is
        # damaged, between `best.ckpt` and the last.
        if trainer.is_global_zero and Metrics.of(trainer).best_step == trainer.global_step:
            self._writes.add(_link, self._path(folder.BEST), self._path(folder.step_name(trainer.global_step)))
        self._remove_old(trainer)

    def save_step(self, trainer: L.Trainer) -> None:
        """Save a checkpoint of the current step, delete the oldest beyond `keep`, and wait until this is done.

        Args:
            trainer: the Trainer, at the end of a step.
        """
        self._save_step(trainer)
        self._writes.wait()

    def _save_if_due(self, trainer: L.Trainer, is_best: bool) -> None:
        best = self._path(folder.BEST)
        if is_best and self._best_step != trainer.global_step:
            # First: a run that is killed here resumes from an earlier step, and saves it again.
            self._save(trainer, best)
            self._best_step = trainer.global_step
        if trainer.should_stop or trainer.global_step % self.every_n_steps == 0:
            self._save_step(trainer, best if is_best else None)

    def _save_step(self, trainer: L.Trainer, saved: Path | None = None) -> None:
        """Save a checkpoint of the current step, unless it is saved, and delete the oldest beyond `keep`.

        Args:
            trainer: the Trainer, at the end of a step.
            saved: another file with this checkpoint, to link to.
        """
        checkpoint = self._path(folder.step_name(trainer.global_step))
        if saved is not None:
            if trainer.is_global_zero:
                self._writes.add(_link, saved, checkpoint)
        else:
            self._writes.wait()  # one of them may be of this step
            if not distributed.broadcast(checkpoint.exists):
                self._save(trainer, checkpoint)
        self._remove_old(trainer)

    def _save(self, trainer: L.Trainer, path: Path) -> None:
        self._writes.wait()  # before fsdp gathers another copy of all tensors on the host
        trainer.save_checkpoint(path)

    def _remove_old(self, trainer: L.Trainer) -> None:
        if trainer.is_global_zero:
            self._writes.add(_remove_all_but, self.keep, self.run_dir)

    def _path(self, name: str) -> Path:
        return self.run_dir / folder.FOLDER / name


def _saves_in_background(device: torch.device) -> bool:
    """Whether training goes on while a checkpoint is written: on a CPU, both would compete for cores and memory."""
    return device.type == "cuda"


def _link(saved: Path, checkpoint: Path) -> None:
    if not checkpoint.exists():
        files.link(saved, checkpoint)


def _remove_all_but(keep: int, run_dir: Path) -> None:
    for old in folder.by_step(run_dir)[:-keep]:
        old.unlink()
