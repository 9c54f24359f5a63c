"""Training of byte-pair encoding (Sennrich et al. 2016, algorithm 1), with incremental counts.

Recounting all pairs at every merge would cost the length of the text each time. A merge changes only the words that
contain its pair: an index from pairs to words finds these, and a heap finds the most frequent pair.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable

import regex

from gpt2_lightning.tokenizers.byte_level import SPLIT_PATTERN, byte_of_character

Pair = tuple[int, int]
"""Ids of two adjacent tokens."""


def count_words(texts: Iterable[str]) -> Counter[str]:
    """Count the words of GPT-2's split. Texts are read one by one, and may be larger than memory."""
    split = regex.compile(SPLIT_PATTERN)
    words: Counter[str] = Counter()
    for text in texts:
        words.update(split.findall(text))
    return words


def learn_merges(word_counts: Counter[str], n_tokens: int) -> list[Pair]:
    """Learn the merges of a vocabulary of `n_tokens` tokens, in order.

    The most frequent pair comes first; of equally frequent ones that with the smaller ids, as in Hugging Face's
    tokenizers. Two merges may make the same token, so there can be more merges than new tokens.

    Args:
        word_counts: see `count_words`.
        n_tokens: size of the vocabulary, including the 256 bytes.

    Returns:
        Pairs of ids. Merge i makes the token after the last one there is, unless its bytes have an id already. Fewer
        tokens are made where the text has no pair left.
    """
    id_of_byte = {byte: i for i, byte in enumerate(byte_of_character().values())}
    words = [[id_of_byte[byte] for byte in word.encode(errors="surrogatepass")] for word in word_counts]
    counts = list(word_counts.values())
    pair_counts, places = _index(words, counts)
    heap = [(-count, pair) for pair, count in pair_counts.items()]
    heapq.heapify(heap)

    token_bytes = [bytes([byte]) for byte in id_of_byte]
    ids = {token: i for i, token in enumerate(token_bytes)}
    merges: list[Pair] = []
    while len(ids) < n_tokens and heap:
        count, pair = heapq.heappop(heap)
        if -count != pair_counts[pair]:
            if pair_counts[pair] > 0:  # it fell since it was pushed
                heapq.heappush(heap, (-pair_counts[pair], pair))
            continue
        merged = token_bytes[pair[0]] + token_bytes[pair[1]]
        new = ids.setdefault(merged, len(ids))
        if new == len(token_bytes):
            token_bytes.append(merged)
        merges.append(pair)
        grown: set[Pair] = set()
        for place in places.pop(pair):
            for changed, change in _merge(words[place], pair, new).items():
                pair_counts[changed] += change * counts[place]
                if change > 0:
                    places[changed].add(place)
                    grown.add(changed)
        pair_counts[pair] = 0
        for changed in grown:
            heapq.heappush(heap, (-pair_counts[changed], changed))
    return merges


def _index(words: list[list[int]], counts: list[int]) -> tuple[Counter[Pair], defaultdict[Pair, set[int]]]:
    """Count of each pair in the text, and the words that contain it."""
    pair_counts: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)
    for place, (word, count) in enumerate(zip(words, counts, strict=True)):
        for pair in itertools.pairwise(word):
            pair_counts[pair] += count
            places[pair].add(place)
    return pair_counts, places


def _merge(word: list[int], pair: Pair, new: int) -> dict[Pair, int]:
    """Replace a pair in a word in place, from left to right; return the changes of the counts of other pairs."""
    first, second = pair
    changes: defaultdict[Pair, int] = defaultdict(int)
    i = 0
    while i < len(word) - 1:
        if word[i] == first and word[i + 1] == second:
            word[i : i + 2] = [new]
            if i > 0:
                changes[word[i - 1], first] -= 1
                changes[word[i - 1], new] += 1
            if i < len(word) - 1:
                changes[second, word[i + 1]] -= 1
                changes[new, word[i + 1]] += 1
        i += 1
    return changes
