"""Batches of labeled texts: the order of samples, and their batches."""

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
    """Texts and what is to be predicted of them."""

    ids: Tensor
    """(B, T), int64, padded."""
    mask: Tensor
    """(B, T), bool: whether each is a token of the text."""
    labels: Tensor
    """The targets, (B, …); see `LabelKind.targets`."""


class LabeledSet:
    """One part of a table, ready for batches.

    Args:
        rows: the texts and their labels.
        texts: the same texts, encoded.
        labels: their targets, see `LabelKind.targets`.
    """

    def __init__(self, rows: Sequence[LabeledText], texts: EncodedTexts, labels: Tensor) -> None:
        self.rows, self.texts, self.labels = rows, texts, labels

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: NDArray[np.int64]) -> LabelBatch:
        """Some rows, in the order asked for."""
        return LabelBatch(*self.texts.batch(rows), self.labels[torch.from_numpy(rows)])


class LabeledSamples(Samples[LabelBatch]):
    """An endless sequence of rows: epoch after epoch, each with every row once, rows of similar length together.

    Every epoch shuffles the rows, sorts pools of fifty batches by length, and shuffles the batches. What is left at
    either end of an epoch, where a batch has rows of two, is chosen by chance. The n-th sample depends on the seed, n
    and the size of a batch alone, and not on the parts in which a batch is read.

    Args:
        data: what is trained on.
        batch_size: samples in an optimizer step.
        seed: another seed is another order.
    """

    def __init__(self, data: LabeledSet, batch_size: int, seed: int) -> None:
        self.data, self.batch_size, self.seed = data, batch_size, seed
        self.per_epoch = len(data)
        self.targets_per_sample = float(data.texts.lengths.mean())
        """Tokens that are read of a text, on average."""
        self._latest: tuple[int, NDArray[np.int64]] | None = None

    def read(self, numbers: NDArray[np.int64]) -> LabelBatch:
        return self.data.batch(self.rows(numbers))

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row that each sample is."""
        epochs, places = np.divmod(numbers, self.per_epoch)
        rows = np.empty_like(places)
        for epoch in np.unique(epochs).tolist():
            chosen = epochs == epoch
            rows[chosen] = self._epoch(epoch)[places[chosen]]
        return rows

    def _epoch(self, epoch: int) -> NDArray[np.int64]:
        """All rows in the order of an epoch; the latest is kept."""
        if self._latest is None or self._latest[0] != epoch:
            self._latest = epoch, self._order(epoch)
        return self._latest[1]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        n, size = self.per_epoch, self.batch_size
        row_key, batch_key = keys_of(self.seed, epoch)
        order = permute(np.arange(n), n, row_key)
        head = min(n, -epoch * n % size)  # rows that fill the last batch of the epoch before
        whole = (n - head) // size
        batches = (np.arange(n) - head) // size  # -1 for the head, `whole` for what begins the next epoch's first
        pools = np.where(batches < whole, batches // _POOL, math.inf)
        order = order[np.lexsort((self.data.texts.lengths[order], pools))]
        middle = order[head : head + whole * size].reshape(whole, size)
        order[head : head + whole * size] = middle[permute(np.arange(whole), whole, batch_key)].ravel()
        return order


class LabeledBatches(Dataset[LabelBatch]):
    """Every row once, in batches of similar lengths; rank r of W has every W-th batch."""

    def __init__(self, data: LabeledSet, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.data = data
        self._batches = data.texts.by_length(batch_size)[rank::world_size]

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> LabelBatch:
        return self.data.batch(self._batches[index])
