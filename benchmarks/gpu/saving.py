"""Measurement of the time for which training waits for a checkpoint."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L

from benchmarks.gpu.rows import Row, timed
from benchmarks.gpu.scale import Scale
from benchmarks.gpu.training import train
from gpt2_lightning.training.callbacks import Checkpointing


class _TimedCheckpointing(Checkpointing):
    """Checkpointing that measures how long a step with a checkpoint waits for it."""

    def __init__(self, run_dir: Path, scale: Scale) -> None:
        super().__init__(run_dir, every_n_steps=2 * scale.steps)
        self.scale = scale
        self.seconds: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
        self.scale.synchronize()
        began = time.perf_counter()
        super().on_train_batch_end(trainer, *arguments)
        if trainer.global_step % self.every_n_steps == 0:
            self.seconds.append(time.perf_counter() - began)


def save(scale: Scale, variant: str | None = None) -> Iterator[Row]:
    """Train 124M with a checkpoint every 20 steps."""
    with tempfile.TemporaryDirectory() as folder:
        callback = _TimedCheckpointing(Path(folder), scale)
        list(train(scale, variant=variant, callbacks=(callback,)))
        size = max(file.stat().st_size for file in Path(folder).rglob("*.ckpt"))
    yield timed(callback.seconds) | Row(remark=f"wait of a step for a checkpoint of {size / 1e9:.1f} GB")
