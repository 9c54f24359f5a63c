"""Windows of a document that is longer than the context of the model, as requests."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from gpt2_lightning.evaluation.likelihood.request import Request, TokenIds


@dataclass(frozen=True)
class Windows(Sequence[Request]):
    """Requests of one continuation each, views of a document that are made when they are read."""

    number_of_windows: int
    window: Callable[[int], Request]

    def __len__(self) -> int:
        return self.number_of_windows

    @overload
    def __getitem__(self, index: int) -> Request: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Request]: ...
    def __getitem__(self, index: int | slice) -> Request | Sequence[Request]:
        if isinstance(index, slice):
            numbers = range(len(self))[index]
            return Windows(len(numbers), lambda i: self.window(numbers[i]))
        return self.window(range(len(self))[index])


def sliding_windows(ids: TokenIds, block_size: int, stride: int, prefix: int | None = None) -> Windows:
    """Windows of `block_size` tokens that begin every `stride` tokens, as in Hugging Face's guide to perplexity.

    Each window predicts the tokens after the end of the window before it. A token that begins a window has no context
    and is not predicted: the first of a document without a prefix, and that of each window if `stride` is `block_size`.

    Args:
        ids: the document, (T,).
        block_size: context of the model, in tokens.
        stride: 1 (each token has the longest context, for a forward pass each) to `block_size` (fastest).
        prefix: a token before the document, from which its first token is predicted.
    """
    if not 1 <= stride <= block_size:
        raise ValueError(f"stride is {stride}; it must be from 1 to block_size, which is {block_size}")
    if prefix is not None:
        ids = np.concatenate([np.array([prefix], dtype=ids.dtype), ids])

    def window(number: int) -> Request:
        begin = number * stride
        end = min(begin + block_size, len(ids))
        end_before = begin - stride + block_size if number else 0
        first = max(begin + 1, end_before)
        return Request(ids[begin:first], (ids[first:end],))

    unpredicted = 1 if stride == block_size else 0  # a last window of that token alone predicts nothing
    after_first = max(0, math.ceil((len(ids) - unpredicted - block_size) / stride))
    return Windows(1 + after_first if min(len(ids), block_size) > 1 else 0, window)


def disjoint_windows(ids: TokenIds, block_size: int, prefix: int) -> Windows:
    """Windows that predict `block_size` tokens each, as `loglikelihood_rolling` of lm-evaluation-harness.

    The first token is predicted from the prefix, and that of another window from the token before it. The last window
    has as much context as fits.

    Args:
        ids: the document, (T,); all tokens are predicted.
        block_size: context of the model, in tokens.
        prefix: the token before the document; see `encoding.prefix_token`.
    """

    def window(number: int) -> Request:
        first = number * block_size
        end = min(first + block_size, len(ids))
        context = ids[end - block_size - 1 : first] if number else np.array([prefix], dtype=ids.dtype)
        return Request(context, (ids[first:end],))

    return Windows(math.ceil(len(ids) / block_size), window)
