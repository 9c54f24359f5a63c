"""Which window of the corpus is the n-th sample: a pure function of the seed and n.

There is no iterator to save. A run's position in its data is the number of samples that it has seen, and that number
means the same at any worker count and world size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 4


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
            phase_key, shuffle_key = np.random.SeedSequence((self.seed, int(epoch))).generate_state(2, np.uint64)
            phase = int(phase_key % np.uint64(self._slack + 1))
            starts[chosen] = phase + self.block_size * permute(places[chosen], self.per_epoch, int(shuffle_key))
        return starts


def permute(places: NDArray[np.int64], size: int, key: int) -> NDArray[np.int64]:
    """A keyed permutation of range(size), evaluated at some places, without a table.

    A Feistel network over the next even number of bits, walked again wherever it leaves the range (Black and Rogaway
    2002, "Ciphers with arbitrary finite domains", sections 4 and 5).
    """
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    round_keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)
    result = places.astype(np.uint64)
    outside = np.ones(result.shape, dtype=bool)
    while outside.any():
        left, right = result[outside] >> half, result[outside] & mask
        for round_key in round_keys:
            left, right = right, left ^ (_mix(right ^ round_key) & mask)
        result[outside] = (left << half) | right
        outside = result >= size
    return result.astype(np.int64)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread every bit over the word: the finaliser of SplitMix64 (Steele et al. 2014, figure 17)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
