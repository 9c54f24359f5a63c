"""The callbacks that report loss spikes, and undo them."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from statistics import fmean
from typing import Any

import lightning as L
import torch
from torch import Tensor

from gpt2_lightning.checkpoints import folder
from gpt2_lightning.errors import UserError
from gpt2_lightning.settings import PositiveInt, checked
from gpt2_lightning.training import distributed
from gpt2_lightning.training.lightning_module import TrainingModule
from gpt2_lightning.training.saving.checkpoint_io import writes_of
from gpt2_lightning.training.spikes import STATE_KEY, RollBack, Spike, SpikeDetector

log = logging.getLogger(__name__)


class SpikeWatch(L.Callback):
    """Warn of spikes of the training loss, see `spikes.SpikeDetector`. It belongs to every run.

    The losses of the steps stay on the device until a row of metrics or a checkpoint is due, which read values from it
    anyway. All ranks judge the same losses, the means over the ranks.
    """

    def __init__(self) -> None:
        self._detector = SpikeDetector()
        self._unread: dict[int, list[Tensor]] = {}
        """Losses of the micro-batches of this rank, by step."""
        self._spikes: list[Spike] = []
        """Spikes that are not reported yet."""
        self._last_seen_step = 0

    @property
    def state_key(self) -> str:
        """Key of the state in checkpoints, with and without a guard."""
        return STATE_KEY

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_seen_step = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, TrainingModule)
        stepped = trainer.global_step != self._last_seen_step
        self._last_seen_step = step = trainer.global_step
        self._unread.setdefault(step if stepped else step + 1, []).append(pl_module.train_losses[-1])
        interval: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # the Trainer sets it undeclared
        if stepped and step % interval == 0:
            self._read()
            spikes, self._spikes = self._spikes, []
            if spikes:
                self.on_spikes(trainer, spikes)

    def on_spikes(self, trainer: L.Trainer, spikes: list[Spike]) -> None:
        """Called on all ranks after a step whose row of metrics is due, if there were spikes since the last row."""
        for spike in spikes:
            log.warning("spike: %s", spike)

    def state_dict(self) -> dict[str, Any]:
        self._read()
        return {"losses": self._detector.losses, "spikes": [dataclasses.astuple(spike) for spike in self._spikes]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._detector = SpikeDetector(state_dict["losses"])
        self._spikes = [Spike(*values) for values in state_dict["spikes"]]

    def _read(self) -> None:
        """Judge the losses since the last reading."""
        if not self._unread:
            return
        values = torch.stack([loss for losses in self._unread.values() for loss in losses])
        by_rank = distributed.all_gather(values.tolist())
        done = 0
        for step, losses in self._unread.items():
            mean = fmean(value for of_rank in by_rank for value in of_rank[done : done + len(losses)])
            done += len(losses)
            if (spike := self._detector.judge(step, mean)) is not None:
                self._spikes.append(spike)
        self._unread = {}


class SpikeGuard(SpikeWatch):
    """Undo spikes of the training loss: go back to a checkpoint before the spike, and skip the samples around it.

    As in Chowdhery et al. 2022, "PaLM", section 5.1. The run continues as one that resumes from the checkpoint and
    never reads these samples. The checkpoint has to be at least two steps older than the spike, since the update of the
    step before may be its cause; no checkpoint is saved while a spike waits for its report. Without such a checkpoint,
    the spike is reported and the run continues.

    Args:
        run_dir: the run's folder.
        skip_steps: optimizer steps whose samples are skipped, from the step before the spike on.
        max_rollbacks: number of spikes of a run that are undone; the next one ends the run.

    Raises:
        ValueError: if a number is below 1.
    """

    @checked
    def __init__(self, run_dir: Path, skip_steps: PositiveInt = 10, max_rollbacks: PositiveInt = 5) -> None:
        super().__init__()
        self.run_dir = run_dir
        self.skip_steps, self.max_rollbacks = skip_steps, max_rollbacks
        self._rollbacks = 0

    def on_spikes(self, trainer: L.Trainer, spikes: list[Spike]) -> None:
        """Go back.

        Raises:
            RollBack: to continue from an earlier checkpoint.
            UserError: if the run has gone back `max_rollbacks` times.
        """
        first = spikes[0]
        writes_of(trainer).wait()
        checkpoint = distributed.broadcast(lambda: folder.newest_before(self.run_dir, first.step - 1))
        if checkpoint is None:
            log.warning("spike: %s; no checkpoint before it is left, so the run continues", first)
            return
        if self._rollbacks == self.max_rollbacks:
            raise UserError(
                f"callbacks.spike_guard.max_rollbacks: {first}, after {self._rollbacks} rollbacks. Resume from "
                f"{checkpoint} with a lower optimizer.lr or a higher callbacks.spike_guard.max_rollbacks; all "
                "checkpoints are kept"
            )
        data = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it in fit and does not declare it
        log.warning(
            "spike: %s: back to %s, without the samples of steps %s to %s (rollback %d of at most %d)",
            first,
            checkpoint.name,
            f"{first.step - 1:,}",
            f"{first.step + self.skip_steps - 2:,}",
            self._rollbacks + 1,
            self.max_rollbacks,
        )
        more = data.samples_before(first.step - 1), self.skip_steps * data.batch_size
        raise RollBack(checkpoint, type(data).__qualname__, [*data.skipped, more], self._rollbacks + 1)

    def on_save_checkpoint(self, trainer: L.Trainer, *_: Any) -> None:
        """Go back instead of saving a checkpoint after a spike; `state_dict`, called before, has found it."""
        if spikes := self._spikes:
            self._spikes = []
            self.on_spikes(trainer, spikes)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "rollbacks": self._rollbacks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._rollbacks = state_dict.get("rollbacks", 0)
