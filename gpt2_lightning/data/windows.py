"""Batches as map-style datasets: item i is the i-th whole batch, gathered from the memory map at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from gpt2_lightning.data.order import SampleOrder


class TrainingBatches(Dataset[Tensor]):
    """Batches of (B, block_size + 1) ids: inputs without the last column, targets without the first.

    Rank r of W reads rows r * B to (r + 1) * B of every W * B consecutive samples, so that the ranks of a step share
    out exactly the samples that one process would read. Batch 0 starts at `first_sample` of the order.
    """

    def __init__(
        self,
        ids: NDArray,
        order: SampleOrder,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        first_sample: int = 0,
    ) -> None:
        self.ids, self.order, self.batch_size = ids, order, batch_size
        self.rank, self.world_size = rank, world_size
        self.first_sample = first_sample
        self.columns = np.arange(order.block_size + 1)

    def __getitem__(self, index: int) -> Tensor:
        first = self.first_sample + (index * self.world_size + self.rank) * self.batch_size
        starts = self.order.starts(np.arange(first, first + self.batch_size))
        return torch.from_numpy(self.ids[starts[:, None] + self.columns].astype(np.int64))


class Endless(Sampler[int]):
    """0, 1, 2, … without an end: the trainer's step limit ends a run."""

    def __iter__(self) -> Iterator[int]:
        return itertools.count()


class ValidationBatches(Dataset[Tensor]):
    """The whole of the validation ids, every token but the first predicted exactly once.

    Windows do not overlap. The last one is shorter where the length asks for it, and comes in a batch of its own.
    Rank r of W has every W-th batch.
    """

    def __init__(self, ids: NDArray, block_size: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.ids = ids
        whole, rest = divmod(len(ids) - 1, block_size)
        starts = np.arange(whole) * block_size
        batches = [(starts[i : i + batch_size], block_size) for i in range(0, whole, batch_size)]
        if rest:
            batches.append((np.array([whole * block_size]), rest))
        self.batches = batches[rank::world_size]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Tensor:
        starts, length = self.batches[index]
        return torch.from_numpy(self.ids[starts[:, None] + np.arange(length + 1)].astype(np.int64))
