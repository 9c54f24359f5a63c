"""Map-style datasets of batches: item i is the i-th batch, read at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset, DistributedSampler

from gpt2_lightning.data.sampling.samples import Samples
from gpt2_lightning.data.sampling.windows import Batch, Windows, read_batch


class TrainingBatches(Dataset[Any]):
    """Training batches of B samples.

    Rank r of W reads rows r * B to (r + 1) * B of every W * B consecutive samples, so that the ranks of a step divide
    exactly the samples that a single process would read. Batch 0 starts at `first_sample`; the batches repeat after
    `period` batches, if that is given. Each element of `skipped` is the number of a sample, in a sequence without those
    of the elements before it, and how many are left out from there on.
    """

    def __init__(
        self,
        samples: Samples[Any],
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        first_sample: int = 0,
        period: int | None = None,
        skipped: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.samples, self.batch_size = samples, batch_size
        self.rank, self.world_size = rank, world_size
        self.first_sample, self.period, self.skipped = first_sample, period, skipped

    def __getitem__(self, index: int) -> Any:
        index = index % self.period if self.period else index
        first = self.first_sample + (index * self.world_size + self.rank) * self.batch_size
        numbers = np.arange(first, first + self.batch_size)
        for begin, count in reversed(self.skipped):
            numbers = np.where(numbers >= begin, numbers + count, numbers)
        return self.samples.read(numbers)


class BatchNumbers(DistributedSampler[int]):
    """Sampler of the batch numbers of a rank. The dataset distributes the batches over the ranks.

    It is a `DistributedSampler`, so that the Trainer does not replace it by one.

    Args:
        count: batches in a pass; None for an endless pass.
        continues: whether the next pass continues with the following numbers, instead of restarting at 0.
    """

    def __init__(self, count: int | None = None, continues: bool = False) -> None:
        self.count, self.continues = count, continues
        self._next = 0

    def __iter__(self) -> Iterator[int]:
        first = self._next if self.continues else 0
        for number in itertools.count(first) if self.count is None else range(first, first + self.count):
            self._next = number + 1
            yield number

    def __len__(self) -> int:
        if self.count is None:
            raise TypeError("an endless pass has no length")
        return self.count


class ValidationBatches(Dataset[Batch]):
    """All windows of one or more corpora: every token except the first of each corpus is a target exactly once.

    Rank r of W has batches r, r + W, r + 2W, …
    """

    def __init__(
        self, corpora: list[Windows], batch_size: int, rank: int = 0, world_size: int = 1, masked_by: int | None = None
    ) -> None:
        self.corpora, self.batch_size, self.masked_by = corpora, batch_size, masked_by
        self.rank, self.world_size = rank, world_size
        counts = [-(-len(windows) // batch_size) for windows in corpora]
        self._ends = np.cumsum(counts)

    def __len__(self) -> int:
        return len(range(self.rank, int(self._ends[-1]), self.world_size))

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} batches, no number {index}")
        number = index * self.world_size + self.rank
        place = int(np.searchsorted(self._ends, number, side="right"))
        windows = self.corpora[place]
        first = (number - (int(self._ends[place - 1]) if place else 0)) * self.batch_size
        chosen = np.arange(first, min(first + self.batch_size, len(windows)))
        return read_batch(windows.sequence, *windows.places(chosen), windows.block_size, self.masked_by)
