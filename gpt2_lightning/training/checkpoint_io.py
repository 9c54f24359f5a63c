"""Checkpoint IO for Lightning: files are written atomically, flushed to disk, and loaded without executing code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.fabric.plugins import CheckpointIO

from gpt2_lightning.checkpoints import files
from gpt2_lightning.training import distributed


class AtomicCheckpointIO(CheckpointIO):
    """Write and read by `checkpoints.files`. Rank zero reads, and broadcasts the content to the other ranks."""

    def __init__(self) -> None:
        self._content: dict[str, Any] | None = None

    def preload(self, content: dict[str, Any]) -> None:
        """Set the content of the checkpoint to resume from, if rank zero has already read it."""
        self._content = content

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        files.write(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return the content of a checkpoint on all ranks, each of which must call it."""
        content, self._content = self._content, None  # freed when Lightning has restored everything
        if content is None and distributed.is_rank_zero():
            content = files.read(Path(path))
        return distributed.broadcast_tensors(content)

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)
