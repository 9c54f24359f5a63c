"""Lightning's checkpoints through this project's own files: atomic, flushed to disk, loaded without running code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.fabric.plugins import CheckpointIO

from gpt2_lightning.checkpoints import files


class AtomicCheckpointIO(CheckpointIO):
    """See `checkpoints.files`."""

    def __init__(self) -> None:
        self._preloaded: tuple[Path, dict[str, Any]] | None = None

    def preload(self, path: Path, content: dict[str, Any]) -> None:
        """Hand over the content of a checkpoint, which is then loaded once without reading the file."""
        self._preloaded = (path, content)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        files.write(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        if self._preloaded is None or Path(path) != self._preloaded[0]:
            return files.read(Path(path))
        _, content = self._preloaded
        self._preloaded = None  # frees the memory when Lightning has restored everything
        return content

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)
