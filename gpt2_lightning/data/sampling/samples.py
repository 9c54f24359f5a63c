"""Endless sequences of training samples, of one corpus or several: pure functions of the seed and the sample number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from fractions import Fraction
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from gpt2_lightning.data.sampling.permutation import SampleOrder, keys_of, permute
from gpt2_lightning.data.sampling.windows import Batch, DocumentWindows, read_batch
from gpt2_lightning.data.shards.sequence import TokenSequence

_ROUND = 4096


BatchT_co = TypeVar("BatchT_co", covariant=True)


class Samples(ABC, Generic[BatchT_co]):
    """Endless sequence of samples, read by number."""

    per_epoch: int
    """Number of samples in a pass over the corpus."""
    targets_per_sample: float
    """Mean number of targets in a sample."""

    @abstractmethod
    def read(self, numbers: NDArray[np.int64]) -> BatchT_co:
        """Return the batch of the given sample numbers, in their order."""


class JoinedSamples(Samples[Batch]):
    """Windows that cross document boundaries, with a different offset in every epoch; see `SampleOrder`."""

    def __init__(self, sequence: TokenSequence, block_size: int, seed: int, masked_by: int | None = None) -> None:
        self.sequence, self.masked_by = sequence, masked_by
        self.order = SampleOrder(len(sequence), block_size, seed)
        self.per_epoch = self.order.per_epoch
        self.targets_per_sample = block_size

    def read(self, numbers: NDArray[np.int64]) -> Batch:
        starts = self.order.starts(numbers)
        return read_batch(self.sequence, starts, None, self.order.block_size, self.masked_by)


class SeparateSamples(Samples[Batch]):
    """Windows within documents, in a different order in every epoch."""

    def __init__(self, sequence: TokenSequence, block_size: int, seed: int, end_of_text: int) -> None:
        self.windows = DocumentWindows(sequence, block_size, end_of_text)
        self.seed = seed
        self.per_epoch = len(self.windows)
        self.targets_per_sample = (len(sequence) - 1) / self.per_epoch

    def read(self, numbers: NDArray[np.int64]) -> Batch:
        epochs, places = np.divmod(numbers, self.per_epoch)
        shuffled = np.empty_like(places)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            _, key = keys_of(self.seed, int(epoch))
            shuffled[chosen] = permute(places[chosen], self.per_epoch, key)
        return read_batch(self.windows.sequence, *self.windows.places(shuffled), self.windows.block_size)


class MixedSamples(Samples[Batch]):
    """Mix of several corpora in fixed shares.

    Every round of 4,096 samples contains each corpus in exactly its share, to the nearest integer, in an order that
    differs between rounds. Each corpus has its own epochs, so that no sample repeats before all its samples were read
    once.

    Args:
        parts: samples of each corpus.
        weights: relative share of each corpus.
        seed: seed of the order.
    """

    def __init__(self, parts: list[Samples[Batch]], weights: list[float], seed: int) -> None:
        self.parts, self.seed = parts, seed
        self._quotas = _apportion(weights, _ROUND)
        self._ends = np.cumsum(self._quotas)
        shares = [quota / _ROUND for quota in self._quotas]
        self.per_epoch = sum(part.per_epoch for part in parts)
        self.targets_per_sample = sum(s * p.targets_per_sample for s, p in zip(shares, parts, strict=True))

    def read(self, numbers: NDArray[np.int64]) -> Batch:
        part, own = self.choose(numbers)
        batch: list[torch.Tensor | None] = [None, None, None]
        for index in np.unique(part).tolist():
            rows = np.flatnonzero(part == index)
            for i, column in enumerate(self.parts[index].read(own[rows])[:3]):
                if column is not None:
                    whole = batch[i]
                    if whole is None:
                        whole = batch[i] = column.new_zeros(numbers.size, column.size(1))
                    whole[torch.from_numpy(rows)] = column
        inputs, targets, documents = batch
        assert inputs is not None, "a batch has rows"
        assert targets is not None, "and each of them targets"
        return Batch.of(inputs, targets, documents)

    def choose(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Map sample numbers to the index of a corpus and the sample number in that corpus."""
        rounds, places = np.divmod(numbers, _ROUND)
        slots = np.empty_like(places)
        for turn in np.unique(rounds):
            chosen = rounds == turn
            slots[chosen] = permute(places[chosen], _ROUND, keys_of(self.seed, int(turn))[1])
        part = np.searchsorted(self._ends, slots, side="right")
        quotas = np.array(self._quotas)
        return part, rounds * quotas[part] + slots - (self._ends - quotas)[part]


def _apportion(weights: list[float], total: int) -> list[int]:
    """Divide `total` in proportion to the weights by the largest remainder method; each weight gets at least 1."""
    shares = [Fraction(weight) * total / sum(map(Fraction, weights)) for weight in weights]
    quotas = [max(1, int(share)) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: quotas[i] - shares[i])
    for i in by_remainder[: max(0, total - sum(quotas))]:
        quotas[i] += 1
    quotas[max(range(len(quotas)), key=quotas.__getitem__)] -= sum(quotas) - total
    return quotas
