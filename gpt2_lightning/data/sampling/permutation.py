"""Which window of the corpus is the n-th sample: a pure function of the seed and n.

There is no iterator to save. A run's position in its data is the number of samples that it has seen, and that number
means the same at any worker count and world size.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_ROUND_PAIRS = 3


class SampleOrder:
    """An endless sequence of windows: epoch after epoch, each a shuffle of all windows that repeats none.

    An epoch cuts the corpus into windows of `block_size` tokens from a start that differs by epoch, so that no two
    epochs cut at the same places.

    Args:
        n_tokens: length of the corpus; at least block_size + 1.
        block_size: tokens that a sample predicts.
        seed: another seed is another order.
    """

    def __init__(self, n_tokens: int, block_size: int, seed: int) -> None:
        assert n_tokens > block_size, "checked where the token files are opened"
        self.block_size = block_size
        self.seed = seed
        self.per_epoch = max(1, (n_tokens - 1) // block_size - 1)
        """Samples in an epoch."""
        self._slack = n_tokens - 1 - self.per_epoch * block_size

    def starts(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """First token of each sample, for sample numbers of any epoch."""
        epochs, places = np.divmod(samples, self.per_epoch)
        starts = np.empty_like(places)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            phase_key, shuffle_key = keys_of(self.seed, int(epoch))
            phase = phase_key % (self._slack + 1)
            starts[chosen] = phase + self.block_size * permute(places[chosen], self.per_epoch, shuffle_key)
        return starts


def keys_of(seed: int, epoch: int) -> tuple[int, int]:
    """Two independent keys of 64 bits for an epoch."""
    first, second = np.random.SeedSequence((seed, epoch)).generate_state(2, np.uint64).tolist()
    return first, second


def permute(places: NDArray[np.int64], size: int, key: int) -> NDArray[np.int64]:
    """A keyed permutation of range(size), evaluated at some places, without a table.

    A Feistel network over a grid of as many rows as columns, or one less, which is hardly larger than the range; walked
    again wherever it leaves that (Black and Rogaway 2002, "Ciphers with arbitrary finite domains", sections 4 and 5).
    """
    columns = np.uint64(math.isqrt(size - 1) + 1 if size > 1 else 1)
    rows = np.uint64(-(-size // int(columns)))
    round_keys = np.random.SeedSequence(key).generate_state(2 * _ROUND_PAIRS, np.uint64).reshape(-1, 2)
    result = places.astype(np.uint64)
    outside = np.ones(result.shape, dtype=bool)
    while outside.any():
        row, column = np.divmod(result[outside], columns)
        for first, second in round_keys:
            column = (column + _mix(row ^ first)) % columns
            row = (row + _mix(column ^ second)) % rows
        result[outside] = row * columns + column
        outside = result >= size
    return result.astype(np.int64)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """32 bits that depend on every bit: the upper half of SplitMix64's finaliser (Steele et al. 2014, figure 17)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))) >> np.uint64(32)
