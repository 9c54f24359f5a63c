"""Cutting a table into three parts: the same rows on every machine, each in one part."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

import numpy as np

from gpt2_lightning.data.sampling.permutation import permute

Row = TypeVar("Row")


@dataclass(frozen=True)
class Splits(Generic[Row]):
    """The rows to train on, to choose by, and to judge by at the end; each in the order of its file."""

    train: list[Row]
    val: list[Row]
    test: list[Row]
    """Empty where none was asked for."""


def cut(rows: list[Row], val: float, test: float, seed: int, strata: Sequence[Hashable] | None = None) -> Splits[Row]:
    """Every row into one part, by chance.

    Of n rows, the training part gets floor(n * (1 - val - test)), the validation part floor(n * val), and the test part
    the rest. Without a test part the rest validates.

    Args:
        rows: of one table.
        val: share of the rows.
        test: share of the rows; 0 for no test part.
        seed: another seed is another cut.
        strata: a key for each row; rows with the same key are cut by themselves, so that all parts have the same mix.
    """
    val_share, test_share = Fraction(str(val)), Fraction(str(test))  # as they were written, without rounding errors
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for indices in _groups(strata or [None] * len(rows)):
        shuffled = _shuffled(indices, seed)
        n_train = int(len(indices) * (1 - val_share - test_share))
        n_val = int(len(indices) * val_share) if test_share else len(indices) - n_train
        parts[0].extend(shuffled[:n_train])
        parts[1].extend(shuffled[n_train : n_train + n_val])
        parts[2].extend(shuffled[n_train + n_val :])
    train, val_rows, test_rows = ([rows[i] for i in sorted(part)] for part in parts)
    return Splits(train, val_rows, test_rows)


def balanced(rows: list[Row], strata: Sequence[Hashable], seed: int) -> list[Row]:
    """As many rows of each key as the rarest key has, by chance, in their order."""
    groups = _groups(strata)
    smallest = min(map(len, groups), default=0)
    return [rows[i] for i in sorted(i for indices in groups for i in _shuffled(indices, seed)[:smallest])]


def _groups(keys: Sequence[Hashable]) -> list[list[int]]:
    """The places of each key, keys in the order of their first place."""
    groups: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    return list(groups.values())


def _shuffled(indices: list[int], seed: int) -> list[int]:
    """By the project's own permutation: numpy's shuffles may change with its version."""
    return [indices[i] for i in permute(np.arange(len(indices)), len(indices), seed)]
