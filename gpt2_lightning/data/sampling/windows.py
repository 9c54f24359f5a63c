"""Windows of a token sequence: their positions, and their batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt2_lightning.data.shards.sequence import TokenSequence
from gpt2_lightning.model.loss import IGNORED

_SCANNED_AT_ONCE = 2**24


class Batch(NamedTuple):
    """A batch of token ids with their targets."""

    inputs: Tensor
    """Token ids, (B, T), int64."""
    targets: Tensor
    """Id of the token after each input, or `model.loss.IGNORED`, (B, T), int64."""
    documents: Tensor | None = None
    """Document index of each input within its row, (B, T), int64; None if no row is divided into documents."""
    n_documents: int | None = None
    """Number of documents in all rows together; None without documents. It is counted here, since counting it on a GPU
    would make the CPU wait."""

    @classmethod
    def of(cls, inputs: Tensor, targets: Tensor, documents: Tensor | None = None) -> Self:
        """Make a batch without document indices if each row is one document, since the causal mask is the same."""
        begun = 0 if documents is None else int(documents.diff(dim=1).count_nonzero())
        return cls(inputs, targets, documents, len(inputs) + begun) if begun else cls(inputs, targets)


class Windows(ABC):
    """Fixed windows of a sequence; each target is in exactly one window."""

    def __init__(self, sequence: TokenSequence, block_size: int) -> None:
        self.sequence, self.block_size = sequence, block_size

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def places(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the index of the first input of each window, and its number of inputs, 1 to block_size."""


class JoinedWindows(Windows):
    """Consecutive windows that cross document boundaries; the last one may be shorter."""

    def __len__(self) -> int:
        return -(-(len(self.sequence) - 1) // self.block_size)

    def places(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        starts = numbers * self.block_size
        return starts, np.minimum(self.block_size, len(self.sequence) - 1 - starts)


class DocumentWindows(Windows):
    """Windows of one document each, from the end-of-text token before the document to the one that ends it.

    Uses 16 bytes of memory per document.
    """

    def __init__(self, sequence: TokenSequence, block_size: int, end_of_text: int) -> None:
        super().__init__(sequence, block_size)
        self._borders: NDArray[Any] = document_borders(sequence, end_of_text)
        self._ends = np.cumsum(-(-np.diff(self._borders) // block_size))  # of each document, in windows

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._ends.size else 0

    def places(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        document = np.searchsorted(self._ends, numbers, side="right")
        length = self._borders[document + 1] - self._borders[document]
        windows = -(-length // self.block_size)
        skipped = (windows - (self._ends[document] - numbers)) * self.block_size
        return self._borders[document] + skipped, np.minimum(self.block_size, length - skipped)


def document_borders(sequence: TokenSequence, end_of_text: int) -> NDArray[np.int64]:
    """Return the first input of each document, and the last token of the sequence, in ascending order."""
    ends = [
        start + np.flatnonzero(sequence.slice(start, min(start + _SCANNED_AT_ONCE, len(sequence))) == end_of_text)
        for start in range(0, len(sequence), _SCANNED_AT_ONCE)
    ]
    borders = np.concatenate([np.array([0]), *ends, np.array([len(sequence) - 1])])
    return borders[np.flatnonzero(np.diff(borders, prepend=-1))]  # a sequence may begin or end with one


def read_batch(
    sequence: TokenSequence,
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64] | None,
    block_size: int,
    masked_by: int | None = None,
) -> Batch:
    """Read windows as a batch.

    Args:
        sequence: token ids.
        starts: index of the first input of each row, (B,).
        lengths: number of inputs of each row, (B,); the rest is padding without targets. None if all rows are full.
        block_size: number of columns, T.
        masked_by: id of the end-of-text token, to restrict attention to documents; it is the first token of the
            document after it. None to attend across documents.
    """
    if lengths is None or (lengths == block_size).all():
        ids = sequence.read(starts, block_size + 1)  # (B, T + 1)
    else:
        ids = np.full((starts.size, block_size + 1), IGNORED)
        for row, start, length in zip(ids, starts.tolist(), lengths.tolist(), strict=True):
            row[: length + 1] = sequence.slice(start, start + length + 1)
    inputs = np.maximum(ids[:, :-1], 0)
    documents = None if masked_by is None else torch.from_numpy((inputs == masked_by).cumsum(axis=1))
    return Batch.of(torch.from_numpy(inputs), torch.from_numpy(ids[:, 1:]), documents)
