"""Measurement of the search for the largest micro-batch."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gpu.data import stories
from benchmarks.gpu.rows import Row
from benchmarks.gpu.scale import Scale
from benchmarks.gpu.training import make_module
from gpt2_lightning.training.performance.micro_batch_search import find_micro_batch
from gpt2_lightning.training.trainer import TrainerSpec


def search(scale: Scale) -> Iterator[Row]:
    """Search the micro-batch of 124M, compiled, in bf16 and steps of 0.5 million tokens, as `micro_batch_size=auto`."""
    config = scale.config("124M")
    spec = TrainerSpec(accelerator=scale.device, precision="bf16")
    with tempfile.TemporaryDirectory() as folder:
        data = stories(Path(folder), config.block_size, scale.step_rows, 1)
        began = time.perf_counter()
        found = find_micro_batch(
            lambda: make_module(config, scale.device), data, spec, scale.step_rows, config.block_size
        )
        seconds = time.perf_counter() - began
    yield {"remark": f"micro-batches of {found}, found in {seconds:.1f} s"}
