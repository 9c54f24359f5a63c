"""Datasets of labeled texts: the order of the samples, and their batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from gpt2_lightning.data.classification.encoded_texts import EncodedTexts
from gpt2_lightning.data.sampling.permutation import keys_of, permute
from gpt2_lightning.data.sampling.samples import Samples
from gpt2_lightning.label_kinds import LabeledText

_POOL = 50


class LabelBatch(NamedTuple):
    """A batch of texts with their targets."""

    ids: Tensor
    """Token ids, (B, T), int64, padded on the right."""
    mask: Tensor
    """True for tokens of the text, False for padding, (B, T), bool."""
    labels: Tensor
    """Targets, (B, …); see `LabelKind.targets`."""


class LabeledSet:
    """The rows of one part of a table, with their token ids and targets.

    Args:
        rows: texts and labels.
        texts: token ids of the texts.
        labels: targets of the labels; see `LabelKind.targets`.
    """

    def __init__(self, rows: Sequence[LabeledText], texts: EncodedTexts, labels: Tensor) -> None:
        self.rows, self.texts, self.labels = rows, texts, labels

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: NDArray[np.int64]) -> LabelBatch:
        """Return the batch of the given row numbers, in their order."""
        return LabelBatch(*self.texts.batch(rows), self.labels[torch.from_numpy(rows)])


class LabeledSamples(Samples[LabelBatch]):
    """Endless sequence of rows: each epoch contains every row once, with rows of similar length in a batch.

    Each epoch shuffles the rows, sorts pools of fifty batches by length, and shuffles the batches. The rows of a batch
    that spans two epochs are random. The n-th sample is a function of the seed, n and the batch size; it does not
    depend on the micro-batches in which a batch is read.

    Args:
        data: training rows.
        batch_size: samples in an optimizer step.
        seed: seed of the order.
    """

    def __init__(self, data: LabeledSet, batch_size: int, seed: int) -> None:
        self.data, self.batch_size, self.seed = data, batch_size, seed
        self.per_epoch = len(data)
        self.targets_per_sample = float(data.texts.lengths.mean())
        """Mean number of tokens of a text, after truncation."""
        self._latest: tuple[int, NDArray[np.int64]] | None = None

    def read(self, numbers: NDArray[np.int64]) -> LabelBatch:
        return self.data.batch(self.rows(numbers))

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Map sample numbers to row numbers."""
        epochs, places = np.divmod(numbers, self.per_epoch)
        rows = np.empty_like(places)
        for epoch in np.unique(epochs).tolist():
            chosen = epochs == epoch
            rows[chosen] = self._epoch(epoch)[places[chosen]]
        return rows

    def _epoch(self, epoch: int) -> NDArray[np.int64]:
        """Return the row numbers in the order of an epoch; the result of the last epoch is cached."""
        latest = self._latest  # another thread may read another epoch
        if latest is None or latest[0] != epoch:
            self._latest = latest = epoch, self._order(epoch)
        return latest[1]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        n, size = self.per_epoch, self.batch_size
        row_key, batch_key = keys_of(self.seed, epoch)
        order = permute(np.arange(n), n, row_key)
        head = min(n, -epoch * n % size)  # rows that complete the last batch of the previous epoch
        whole = (n - head) // size
        batches = (np.arange(n) - head) // size  # -1 for the head, `whole` for the rows of an incomplete last batch
        pools = np.where(batches < whole, batches // _POOL, math.inf)
        order = order[np.lexsort((self.data.texts.lengths[order], pools))]
        middle = order[head : head + whole * size].reshape(whole, size)
        order[head : head + whole * size] = middle[permute(np.arange(whole), whole, batch_key)].ravel()
        return order


class LabeledBatches(Dataset[LabelBatch]):
    """Every row once, in batches of similar lengths; rank r of W has batches r, r + W, r + 2W, …"""

    def __init__(self, data: LabeledSet, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.data = data
        self._batches = data.texts.by_length(batch_size)[rank::world_size]

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> LabelBatch:
        return self.data.batch(self._batches[index])
