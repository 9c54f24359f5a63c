"""A logger in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpt2_lightning.training.loggers import RunLogger


class Kept(RunLogger):
    """Records its calls, and raises in some methods at every call."""

    package = "pytest"

    def __init__(self, raises: set[str] | None = None) -> None:
        super().__init__()
        self.raises = raises or set()
        self.told: list[tuple[str, Any]] = []

    def _hear(self, method: str, what: Any) -> None:
        self.told.append((method, what))
        if method in self.raises:
            raise OSError(28, "No space left on device")

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        self._hear("log_hyperparams", params)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._hear("log_metrics", (step, metrics))

    def log_text(self, key: str, text: str, step: int) -> None:
        self._hear("log_text", (key, text, step))

    def log_picture(self, key: str, file: Path, step: int) -> None:
        self._hear("log_picture", (key, file, step))

    def finalize(self, status: str) -> None:
        self._hear("finalize", status)
