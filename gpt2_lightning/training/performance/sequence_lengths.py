"""Sequence lengths of the batches of a run: their maximum and mean, and batches padded to the maximum."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gpt2_lightning.data.sampling.base_datamodule import SampleDataModule
from gpt2_lightning.data.sampling.samples import Samples
from gpt2_lightning.data.sampling.windows import Batch

_AT_ONCE, _MOST_ROWS = 256, 2**16
_BATCHES = 32
_AS_IT_IS = "labels"
"""The column of a batch without a time dimension."""


def max_length(samples: Samples[Any], block_size: int) -> int:
    """Return the tokens of the longest sample of an epoch, or of its first 65,536 samples."""
    width = 0
    for first in range(0, min(samples.per_epoch, _MOST_ROWS), _AT_ONCE):
        last = min(first + _AT_ONCE, samples.per_epoch)
        width = max(width, samples.read(np.arange(first, last))[0].size(1))
        if width >= block_size:
            break
    return width


def mean_length(samples: Samples[Any], rows: int) -> float:
    """Return the mean tokens per row, including padding, over 32 batches of `rows` rows spread evenly over an epoch."""
    starts = np.linspace(0, max(0, samples.per_epoch - rows), _BATCHES).astype(np.int64) // rows * rows
    return float(np.mean([samples.read(np.arange(first, first + rows))[0].size(1) for first in np.unique(starts)]))


@contextlib.contextmanager
def at_max_length(data: SampleDataModule, block_size: int) -> Iterator[None]:
    """Context manager in which every batch has the length of the longest sample, the worst case for memory."""
    samples = data.samples
    data.samples = _Widened(samples, max_length(samples, block_size))
    try:
        yield
    finally:
        data.samples = samples


class _Widened(Samples[Any]):
    """Samples whose tokens are repeated up to a given length, without padding."""

    def __init__(self, samples: Samples[Any], width: int) -> None:
        self.samples, self.width = samples, width
        self.per_epoch, self.targets_per_sample = samples.per_epoch, samples.targets_per_sample

    def read(self, numbers: NDArray[np.int64]) -> Any:
        batch = self.samples.read(numbers)
        columns = {name: column for name, column in batch._asdict().items() if isinstance(column, Tensor)}
        wide: dict[str, Any] = {name: self._repeated(part) for name, part in columns.items() if name != _AS_IT_IS}
        if isinstance(batch, Batch):
            return Batch.of(**wide)  # repeated documents are more documents
        if "mask" in wide:
            wide["mask"].fill_(True)
        return batch._replace(**wide)

    def _repeated(self, column: Tensor) -> Tensor:
        times = -(-self.width // column.size(1))
        return column.repeat(1, times)[:, : self.width]
