"""Rows of a batch: a context and its continuations as one sequence, in which continuations do not see each other.

    context ─┬─ first continuation ──┐
             ├─ second continuation ─┤   one row; positions restart after the context
             └─ third continuation ──┘

The last token of a continuation is no input. What all continuations begin with is computed with the context.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.likelihood.request import Request, TokenIds


class ItemError(UserError):
    """A UserError about one item.

    Args:
        item: index of the item.
        reason: what is wrong with it.
    """

    def __init__(self, item: int, reason: str) -> None:
        super().__init__(f"item {item}: {reason}")
        self.item, self.reason = item, reason


@dataclass(frozen=True, slots=True)
class Row:
    """Which continuations are computed in one row."""

    item: int
    request: int
    """Index within the item."""
    continuations: tuple[int, ...]
    """Indices within the request."""
    cut: int
    """Number of tokens at the beginning of the context that do not fit."""
    length: int
    """Number of input tokens."""


@dataclass(frozen=True)
class Tree:
    """Input of one row."""

    ids: TokenIds
    """(T,)."""
    positions: NDArray[np.int64]
    """(T,)."""
    branches: NDArray[np.int64]
    """0 where all tokens after it attend to a token, else the number of the branch whose tokens attend to it, (T,)."""
    predicting: list[NDArray[np.int64]]
    """For each continuation, the indices of the tokens that predict its tokens."""


def rows(requests: Sequence[Sequence[Request]], block_size: int) -> Iterator[Row]:
    """Divide requests into rows of up to `block_size` tokens.

    Raises:
        ItemError: if a continuation does not fit into the context.
    """
    for item, of_item in enumerate(requests):
        for index, request in enumerate(of_item):
            context, lengths = len(request.context), [len(continuation) for continuation in request.continuations]
            if not (context and lengths and all(lengths)):
                raise ValueError(f"request {index} of item {item} has an empty context or continuation")
            if max(lengths) > block_size:
                raise ItemError(
                    item,
                    f"a continuation of {max(lengths)} tokens is longer than the context: block_size is {block_size}; "
                    "evaluate a model with a longer context, or leave the item out",
                )
            cuts = [max(0, context + length - (block_size + 1)) for length in lengths]
            for cut in dict.fromkeys(cuts):
                same = [i for i, other in enumerate(cuts) if other == cut]
                for group in _groups(same, lengths, block_size - (context - cut)):
                    yield Row(item, index, group, cut, _length(request, group, cut))


def tree(request: Request, row: Row) -> Tree:
    """Lay out the input of a row."""
    context = request.context[row.cut :]
    inputs = [request.continuations[i][:-1] for i in row.continuations]
    shared = _shared_prefix(inputs)
    stem = len(context) + shared
    ids, positions, branches, predicting = [context, inputs[0][:shared]], [np.arange(stem)], [np.zeros(stem, int)], []
    start = stem
    for number, tokens in enumerate(inputs, start=1):
        own = len(tokens) - shared
        ids.append(tokens[shared:])
        positions.append(np.arange(stem, stem + own))
        branches.append(np.full(own, number))
        predicting.append(np.concatenate([np.arange(len(context) - 1, stem), np.arange(start, start + own)]))
        start += own
    return Tree(np.concatenate(ids), np.concatenate(positions), np.concatenate(branches), predicting)


def _groups(indices: list[int], lengths: list[int], room: int) -> Iterator[tuple[int, ...]]:
    """Groups of continuations whose input tokens fit into the room after the context, at least one in each."""
    group: list[int] = []
    left = room
    for index in indices:
        if group and lengths[index] - 1 > left:
            yield tuple(group)
            group, left = [], room
        group.append(index)
        left -= lengths[index] - 1
    yield tuple(group)


def _length(request: Request, group: tuple[int, ...], cut: int) -> int:
    inputs = [request.continuations[i][:-1] for i in group]
    return len(request.context) - cut + sum(map(len, inputs)) - (len(inputs) - 1) * _shared_prefix(inputs)


def _shared_prefix(inputs: Sequence[TokenIds]) -> int:
    """Number of tokens with which all inputs begin."""
    if len(inputs) == 1:
        return len(inputs[0])
    shortest = min(map(len, inputs))
    differs = np.any([tokens[:shortest] != inputs[0][:shortest] for tokens in inputs[1:]], axis=0)
    return int(differs.argmax()) if differs.any() else shortest
