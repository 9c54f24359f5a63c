"""Random division of a table into training, validation and test part, identical on every machine."""

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
    """Rows of the training, validation and test part, each in the order of its file."""

    train: list[Row]
    val: list[Row]
    test: list[Row]
    """Empty if no test part is configured."""


def cut(rows: list[Row], val: float, test: float, seed: int, strata: Sequence[Hashable] | None = None) -> Splits[Row]:
    """Divide rows randomly into three parts.

    Of n rows, the training part gets floor(n * (1 - val - test)), the validation part floor(n * val), and the test part
    the remainder. Without a test part, the validation part gets the remainder.

    Args:
        rows: rows of a table.
        val: share of the validation part.
        test: share of the test part; 0 for none.
        seed: seed of the division.
        strata: stratum of each row; each stratum is divided separately, so that all parts have the same distribution.
    """
    val_share, test_share = Fraction(str(val)), Fraction(str(test))  # exact decimal fractions, without rounding errors
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
    """Undersample rows randomly to the same number per stratum, that of the rarest; the order is preserved."""
    groups = _groups(strata)
    smallest = min(map(len, groups), default=0)
    return [rows[i] for i in sorted(i for indices in groups for i in _shuffled(indices, seed)[:smallest])]


def _groups(keys: Sequence[Hashable]) -> list[list[int]]:
    """Return the indices of each key, with keys in the order of their first occurrence."""
    groups: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    return list(groups.values())


def _shuffled(indices: list[int], seed: int) -> list[int]:
    """Shuffle with `permute`, since the results of NumPy's shuffles may change between versions."""
    return [indices[i] for i in permute(np.arange(len(indices)), len(indices), seed)]
