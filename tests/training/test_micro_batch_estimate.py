"""Micro-batch sizes by an estimate, for GPUs of several sizes."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import yaml

from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
from gpt2_lightning.data.shards.prepared import Tokens
from gpt2_lightning.model import GPT2Config
from gpt2_lightning.training.performance.memory_estimate import StepEstimate
from gpt2_lightning.training.performance.micro_batch_estimate import rows_that_fit
from gpt2_lightning.training.trainer import TrainerSpec
from tests.training.language_modules import task
from tests.training.short_run import BLOCK

GB = 10**9


def test_the_largest_divisor_that_fits_into_four_fifths_of_the_memory() -> None:
    """10 bytes, and 3 for each sample: of 100 free bytes 80 are used, which hold 23 samples."""
    tried = []

    def bytes_for(rows: int) -> int:
        tried.append(rows)
        return 10 + 3 * rows

    assert rows_that_fit(24, bytes_for, 100) == 12
    assert rows_that_fit(20, bytes_for, 100) == 20
    assert rows_that_fit(23, bytes_for, 100) == 23
    assert rows_that_fit(29, bytes_for, 100) == 1, "a prime number"
    assert rows_that_fit(24, bytes_for, 11) == 1, "the run itself tells that not even one fits"
    assert rows_that_fit(24, bytes_for, 100, accumulated=40) == 8, "gradients of several micro-batches: 10 samples fit"
    tried.clear()
    assert rows_that_fit(2**20, bytes_for, 2**30) == 2**20
    assert tried == [2**20], "one step is traced where the whole share fits"


@functools.cache
def bytes_of(size: str, root: Path, data: TokenDataModule, rows: int, devices: int = 1) -> int:
    """Memory of a step in bytes, by default in bf16, with the YAML of a size."""
    step = traced(size, root, data)
    return step.held_by_each(devices, sharded=devices > 1) + step.activations(rows, step.module.model.config.block_size)


@functools.cache
def traced(size: str, root: Path, data: TokenDataModule) -> StepEstimate:
    fields = yaml.safe_load((root / "conf" / "model" / f"{size}.yaml").read_text())
    config = GPT2Config(**{key: value for key, value in fields.items() if key not in ("defaults", "_target_")})
    return StepEstimate(task(config), data, TrainerSpec(accelerator="cpu", precision="bf16"))


@pytest.mark.slow
def test_the_default_batch_of_gpt2_fills_gpus_of_several_sizes(tokens: Tokens, root: Path) -> None:
    data = TokenDataModule([tokens], BLOCK, 6, 6, seed=0)
    small = functools.partial(bytes_of, "gpt2_124m", root, data)
    assert [rows_that_fit(16, small, free * GB) for free in (141, 80, 24)] == [16, 16, 16]
    assert 1 <= rows_that_fit(16, small, 8 * GB) < 16
    assert rows_that_fit(512, small, 141 * GB) >= 64, "a large batch in few parts"


@pytest.mark.slow
def test_the_largest_size_takes_what_its_weights_leave(tokens: Tokens, root: Path) -> None:
    data = TokenDataModule([tokens], BLOCK, 6, 6, seed=0)
    large = functools.partial(bytes_of, "gpt2_1558m", root, data)
    sizes = [rows_that_fit(16, large, free * GB) for free in (141, 80, 24)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] >= 8
    assert sizes[2] == 1, "weights, gradients and AdamW's state alone take 24.9 GB"
    sharded = functools.partial(bytes_of, "gpt2_1558m", root, data, devices=8)
    assert rows_that_fit(16, sharded, 24 * GB) > 1, "an eighth of them does not"
