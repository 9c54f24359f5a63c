"""Byte-pair encoding of very long words with arrays: every occurrence of a merge is replaced at once."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning.tokenizers.bpe_training import Pair

_DEAD = -1


class ArrayMerger:
    """Merges of a tokenizer as arrays.

    Args:
        merges: rank and resulting id by pair, in the order of the ranks.
    """

    def __init__(self, merges: Mapping[Pair, tuple[int, int]]) -> None:
        table = [(*pair, new) for pair, (_, new) in merges.items()]
        self._table = table
        keys = np.array([first << 32 | second for first, second, _ in table], dtype=np.int64)
        self._ranks = np.argsort(keys)
        self._keys = keys[self._ranks]
        made_last: dict[int, int] = {new: rank for rank, (_, _, new) in enumerate(table)}
        self.ranks_rise = all(
            max(made_last.get(first, -1), made_last.get(second, -1)) < rank
            for rank, (first, second, _) in enumerate(table)
        )
        """Whether every merge comes after all that make its two tokens, which `merge` requires."""

    def merge(self, ids: list[int]) -> list[int]:
        """Apply the merges to the ids of a word's bytes, in the order of their ranks, each from left to right."""
        n = len(ids)
        tokens = np.array([*ids, _DEAD], dtype=np.int64)  # the last place stands for both ends of the word
        following = np.minimum(np.arange(1, n + 2), n)
        preceding = np.arange(-1, n)
        preceding[0] = n
        waiting: dict[int, list[NDArray[np.int64]]] = {}  # places at which a merge may apply, by its rank
        heap: list[int] = []

        def offer(places: NDArray[np.int64]) -> None:
            keys = tokens[places] << 32 | tokens[following[places]]
            at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
            found = self._keys[at] == keys
            places, ranks = places[found], self._ranks[at[found]]
            order = np.argsort(ranks, kind="stable")
            distinct, starts = np.unique(ranks[order], return_index=True)
            for rank, group in zip(distinct.tolist(), np.split(places[order], starts[1:]), strict=False):
                if rank not in waiting:
                    heapq.heappush(heap, rank)
                waiting.setdefault(rank, []).append(group)

        offer(np.arange(n))
        while heap:
            rank = heapq.heappop(heap)
            first, second, new = self._table[rank]
            places = np.unique(np.concatenate(waiting.pop(rank)))
            places = places[(tokens[places] == first) & (tokens[following[places]] == second)]
            if first == second:
                places = _every_second(places, following)
            after = following[places]
            tokens[places], tokens[after] = new, _DEAD
            following[places] = following[after]
            preceding[following[places]] = places
            offer(np.unique(np.concatenate([places, preceding[places]])))
        return tokens[tokens != _DEAD].tolist()


def _every_second(places: NDArray[np.int64], following: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places without those that overlap the one before: of each run of adjacent places, every second."""
    index = np.arange(places.size)
    is_start = np.ones(places.size, dtype=np.bool_)
    is_start[1:] = following[places[:-1]] != places[1:]
    return places[(index - np.maximum.accumulate(np.where(is_start, index, 0))) % 2 == 0]
