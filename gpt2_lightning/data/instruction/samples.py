"""Samples and batches of examples, packed or padded: endless for training, a single pass for validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from gpt2_lightning.data.instruction.encoding import Example
from gpt2_lightning.data.instruction.packing import best_fit
from gpt2_lightning.data.sampling.permutation import keys_of, permute
from gpt2_lightning.data.sampling.samples import Samples
from gpt2_lightning.data.sampling.windows import Batch
from gpt2_lightning.model.loss import IGNORED

_PADDING = 0
"""Padding id. Any id works: padding has no target, and no token with a target attends to it."""
_SORTED_BATCHES = 16


class PackedSamples(Samples[Batch]):
    """Packed rows: a sample is a row of several examples that do not attend to each other.

    Each epoch contains every row once, in a different order. The packing is the same in every epoch, since the examples
    of a row do not affect each other.

    Args:
        examples: examples, none wider than `block_size`.
        block_size: width of a row.
        seed: seed of the order.
    """

    def __init__(self, examples: Sequence[Example], block_size: int, seed: int) -> None:
        self.block_size, self.seed = block_size, seed
        packed = best_fit([example.width for example in examples], block_size)
        self.rows = [[examples[place] for place in row] for row in packed]
        self.per_epoch = len(self.rows)
        self.targets_per_sample = sum(example.n_targets for example in examples) / len(self.rows)

    @property
    def padding(self) -> float:
        """Share of padding in the rows."""
        used = sum(example.width for row in self.rows for example in row)
        return 1 - used / (len(self.rows) * self.block_size)

    def rows_of(self, numbers: NDArray[np.int64]) -> list[list[Example]]:
        """Return the examples of each sample."""
        epochs, places = np.divmod(numbers, self.per_epoch)
        pairs = zip(epochs.tolist(), places.reshape(-1, 1), strict=True)
        return [
            self.rows[int(permute(place, self.per_epoch, keys_of(self.seed, epoch)[1])[0])] for epoch, place in pairs
        ]

    def read(self, numbers: NDArray[np.int64]) -> Batch:
        return batch_of(self.rows_of(numbers), self.block_size, packed=True)


class PaddedSamples(Samples[Batch]):
    """Padded examples: a sample is an example, and a batch is padded to its longest example.

    Each epoch contains every example once, in a different order with neighbors of similar width: the examples are
    shuffled, then sorted by width within pools of 16 steps, alternately ascending and descending.

    Args:
        examples: examples.
        batch_size: examples in an optimizer step.
        seed: seed of the order.
    """

    def __init__(self, examples: Sequence[Example], batch_size: int, seed: int) -> None:
        self.examples, self.seed = examples, seed
        self._widths = np.array([example.width for example in examples])
        self._pool = np.arange(len(examples)) // (_SORTED_BATCHES * batch_size)
        self._last_order: tuple[int, NDArray[np.int64]] | None = None
        self.per_epoch = len(examples)
        self.targets_per_sample = sum(example.n_targets for example in examples) / len(examples)

    def padding(self, batch_size: int) -> float:
        """Return the share of padding in the first epoch, with `batch_size` examples in a forward pass."""
        widths = self._widths[self._order(0)]
        starts = np.arange(0, len(widths), batch_size)
        in_batch = np.diff(starts, append=len(widths))
        return float(1 - widths.sum() / (np.maximum.reduceat(widths, starts) * in_batch).sum())

    def rows_of(self, numbers: NDArray[np.int64]) -> list[list[Example]]:
        """Return the example of each sample, as lists of one example."""
        epochs, places = np.divmod(numbers, self.per_epoch)
        pairs = zip(epochs.tolist(), places.tolist(), strict=True)
        return [[self.examples[self._order(epoch)[place]]] for epoch, place in pairs]

    def read(self, numbers: NDArray[np.int64]) -> Batch:
        rows = self.rows_of(numbers)
        return batch_of(rows, max(example.width for (example,) in rows), packed=False)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Return the order of the examples in an epoch, a function of seed and epoch; the last result is cached."""
        last = self._last_order  # another thread may read another epoch
        if last is None or last[0] != epoch:
            drawn = permute(np.arange(self.per_epoch), self.per_epoch, keys_of(self.seed, epoch)[1])
            up_or_down = np.where(self._pool % 2, -1, 1)
            self._last_order = last = epoch, drawn[np.lexsort((up_or_down * self._widths[drawn], self._pool))]
        return last[1]


class ExampleBatches(Dataset[Batch]):
    """Padded batches of every example once, with examples of similar width. Rank r of W has batches r, r + W, …"""

    def __init__(self, examples: Sequence[Example], batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        by_width = sorted(examples, key=lambda example: example.width)
        batches = [by_width[start : start + batch_size] for start in range(0, len(by_width), batch_size)]
        self._batches = batches[rank::world_size]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: int) -> Batch:
        examples = self._batches[index]
        return batch_of([[example] for example in examples], examples[-1].width, packed=False)


def batch_of(rows: Sequence[Sequence[Example]], width: int, packed: bool) -> Batch:
    """Concatenate the examples of each row, and pad the rows on the right.

    No target crosses from one example to the next: the last token of an example is a target, but not an input.

    Args:
        rows: examples of each of the B rows.
        width: width of a row; the batch is (B, width).
        packed: whether to number the examples of a row in `Batch.documents`, to separate their attention. Padding is
            then a document as well; otherwise it is excluded by the causal mask.
    """
    inputs = np.full((len(rows), width), _PADDING)
    targets = np.full((len(rows), width), IGNORED)
    documents = np.empty((len(rows), width), dtype=np.int64)
    for row, examples in enumerate(rows):
        start = 0
        for number, example in enumerate(examples):
            places = slice(start, start + example.width)
            inputs[row, places] = example.ids[:-1]
            targets[row, places] = np.where(example.learned, example.ids, IGNORED)[1:]
            documents[row, places] = number
            start = places.stop
        documents[row, start:] = len(examples)
    whole = torch.from_numpy(inputs), torch.from_numpy(targets)
    return Batch.of(*whole, torch.from_numpy(documents) if packed else None)
