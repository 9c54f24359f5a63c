"""Windows of a token sequence: where they lie, and how they become a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt2_lightning.data.shards.sequence import TokenSequence
from gpt2_lightning.model.loss import IGNORED

_SCANNED_AT_ONCE = 2**24


class Batch(NamedTuple):
    """What a forward pass takes, and what it is to predict."""

    inputs: Tensor
    """(B, T), int64."""
    targets: Tensor
    """(B, T), int64: the token after each input, or `model.loss.IGNORED`."""
    documents: Tensor | None = None
    """(B, T), int64: the document of each input within its row, where attention is to stay inside it."""


class Windows(ABC):
    """The fixed windows of a sequence, each target in exactly one of them."""

    def __init__(self, sequence: TokenSequence, block_size: int) -> None:
        self.sequence, self.block_size = sequence, block_size

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def places(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First input of each window, and how many inputs it has, 1 to block_size."""


class JoinedWindows(Windows):
    """One after the other, over the boundaries of documents; the last may be shorter."""

    def __len__(self) -> int:
        return -(-(len(self.sequence) - 1) // self.block_size)

    def places(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        starts = numbers * self.block_size
        return starts, np.minimum(self.block_size, len(self.sequence) - 1 - starts)


class DocumentWindows(Windows):
    """Windows that hold one document: from the end-of-text token before it to the one that closes it.

    Takes 16 bytes of memory for each document.
    """

    def __init__(self, sequence: TokenSequence, block_size: int, end_of_text: int) -> None:
        super().__init__(sequence, block_size)
        ends = [
            start + np.flatnonzero(sequence.slice(start, min(start + _SCANNED_AT_ONCE, len(sequence))) == end_of_text)
            for start in range(0, len(sequence), _SCANNED_AT_ONCE)
        ]
        borders = np.concatenate([[0], *ends, [len(sequence) - 1]])
        borders = borders[np.flatnonzero(np.diff(borders, prepend=-1))]  # a sequence may begin or end with one
        self._borders = borders  # first input of each document, and the last token
        self._ends = np.cumsum(-(-np.diff(borders) // block_size))  # of each document, in windows

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._ends.size else 0

    def places(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        document = np.searchsorted(self._ends, numbers, side="right")
        length = self._borders[document + 1] - self._borders[document]
        windows = -(-length // self.block_size)
        skipped = (windows - (self._ends[document] - numbers)) * self.block_size
        return self._borders[document] + skipped, np.minimum(self.block_size, length - skipped)


def read_batch(
    sequence: TokenSequence,
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64] | None,
    block_size: int,
    masked_by: int | None = None,
) -> Batch:
    """Read windows.

    Args:
        sequence: the ids.
        starts: first input of each row.
        lengths: inputs of each row; the rest is padding that is not to be predicted. None where all are whole.
        block_size: columns.
        masked_by: the end-of-text id, where attention is to stay within documents. It opens the document after it.
    """
    if lengths is None or (lengths == block_size).all():
        ids = sequence.read(starts, block_size + 1)  # (B, T + 1)
    else:
        ids = np.full((starts.size, block_size + 1), IGNORED)
        for row, start, length in zip(ids, starts.tolist(), lengths.tolist(), strict=True):
            row[: length + 1] = sequence.slice(start, start + length + 1)
    inputs = np.maximum(ids[:, :-1], 0)
    documents = None if masked_by is None else torch.from_numpy((inputs == masked_by).cumsum(axis=1))
    return Batch(torch.from_numpy(inputs), torch.from_numpy(ids[:, 1:]), documents)
