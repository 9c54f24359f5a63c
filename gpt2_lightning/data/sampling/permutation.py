"""Order of the training windows: the n-th sample is a pure function of the seed and n.

There is no iterator state to save. The position of a run in its data is the number of samples seen, independent of the
number of workers and the world size.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_ROUND_PAIRS = 3


class SampleOrder:
    """Endless sequence of windows: each epoch is a permutation of all windows.

    Each epoch cuts the corpus into windows of `block_size` tokens from a random offset, so that window boundaries
    differ between epochs.

    Args:
        n_tokens: length of the corpus in tokens; at least block_size + 1.
        block_size: context length in tokens.
        seed: seed of the order.
    """

    def __init__(self, n_tokens: int, block_size: int, seed: int) -> None:
        assert n_tokens > block_size, "checked where the token files are opened"
        self.block_size = block_size
        self.seed = seed
        self.per_epoch = max(1, (n_tokens - 1) // block_size - 1)
        """Number of samples in an epoch."""
        self._slack = n_tokens - 1 - self.per_epoch * block_size

    def starts(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the index of the first token of each sample, for sample numbers of any epoch."""
        epochs, places = np.divmod(samples, self.per_epoch)
        starts = np.empty_like(places)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            phase_key, shuffle_key = keys_of(self.seed, int(epoch))
            phase = phase_key % (self._slack + 1)
            starts[chosen] = phase + self.block_size * permute(places[chosen], self.per_epoch, shuffle_key)
        return starts


def keys_of(seed: int, epoch: int) -> tuple[int, int]:
    """Return two independent 64-bit keys for an epoch."""
    first, second = np.random.SeedSequence((seed, epoch)).generate_state(2, np.uint64).tolist()
    return first, second


def permute(places: NDArray[np.int64], size: int, key: int) -> NDArray[np.int64]:
    """Evaluate a keyed permutation of range(size) at the given places, without a table.

    A Feistel network over a grid with as many rows as columns, or one row less, which is hardly larger than the range.
    Results outside the range are permuted again, known as cycle walking (Black and Rogaway 2002, "Ciphers with
    arbitrary finite domains", sections 4 and 5).
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
    """Mix the bits of x into 32 bits: the upper half of SplitMix64's finalizer (Steele et al. 2014, figure 17)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))) >> np.uint64(32)
