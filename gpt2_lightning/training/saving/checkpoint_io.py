"""Checkpoint IO for Lightning: files are written atomically, flushed to disk, and loaded without executing code."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins import CheckpointIO

from gpt2_lightning.checkpoints import files
from gpt2_lightning.errors import UserError
from gpt2_lightning.training import distributed
from gpt2_lightning.training.saving.host_copy import snapshot
from gpt2_lightning.training.saving.write_queue import WriteQueue

log = logging.getLogger(__name__)


class AtomicCheckpointIO(CheckpointIO):
    """Write and read by `checkpoints.files`. Rank zero reads, and broadcasts the content to the other ranks."""

    def __init__(self) -> None:
        self._content: dict[str, Any] | None = None
        self.writes = WriteQueue()
        """Writes into the checkpoint folder. While its thread runs, a snapshot is saved, and training continues."""

    def preload(self, content: dict[str, Any]) -> None:
        """Set the content of the checkpoint to resume from, if rank zero has already read it."""
        self._content = content

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        if self.writes.in_background:
            self.writes.wait()  # the memory has room for one snapshot
            checkpoint = snapshot(checkpoint)
        self.writes.add(files.write, checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return the content of a checkpoint on all ranks, each of which must call it."""
        self.writes.wait()
        content, self._content = self._content, None  # freed when Lightning has restored everything
        if content is None and distributed.is_rank_zero():
            content = files.read(Path(path))
        return distributed.broadcast_tensors(content)

    def remove_checkpoint(self, path: str | Path) -> None:
        self.writes.wait()
        Path(path).unlink(missing_ok=True)

    def teardown(self) -> None:
        """Complete the writes, however the run ends. An error that is not raised yet follows another, and is logged."""
        try:
            self.writes.stop()
        except UserError as error:
            log.warning("%s", error)


def writes_of(trainer: L.Trainer) -> WriteQueue:
    """Return the queue of writes of the Trainer's checkpoint IO; an empty one for an IO without."""
    checkpoint_io = trainer.strategy.checkpoint_io
    return checkpoint_io.writes if isinstance(checkpoint_io, AtomicCheckpointIO) else WriteQueue()
