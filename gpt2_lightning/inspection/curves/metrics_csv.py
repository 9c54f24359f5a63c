"""A run's metrics.csv, whatever state a crash left it in."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning.errors import UserError
from gpt2_lightning.inspection.curves.smoothing import Floats

FILE = "metrics.csv"
STEP = "step"
_TOKENS, _SPEED = "tokens", "tokens_per_second"


@dataclass(frozen=True)
class Column:
    """The cells of a column that hold a figure; NaN is one."""

    rows: NDArray[np.int64]
    """Which rows of the file they are in, ascending."""
    values: Floats


@dataclass(frozen=True)
class Metrics:
    """What a run logged."""

    columns: dict[str, Column]
    """Those with any figures."""
    unreadable: int = 0
    """Lines that are broken in whole or in part; what can be read of them is in the columns."""
    is_cut_off: bool = False
    """Whether the last line has no end, and was passed over."""

    def column(self, key: str) -> Column:
        """A column; one without cells where there is none of this name."""
        return self.columns.get(key, Column(np.empty(0, np.int64), np.empty(0)))

    def points(self, x: str, y: str) -> tuple[Floats, Floats]:
        """Two columns where both have figures."""
        across = self.seconds() if x == "time" else self.column(x)
        _, first, second = np.intersect1d(across.rows, self.column(y).rows, assume_unique=True, return_indices=True)
        return across.values[first], self.column(y).values[second]

    def seconds(self) -> Column:
        """Time spent training up to each row, without validation and samples, which the speed leaves out.

        A row that says how fast it was tells the seconds since the last that did; those between lie in proportion to
        their tokens.
        """
        tokens, speed = self.points(_TOKENS, _SPEED)
        usable = np.isfinite(speed) & (speed > 0)
        tokens, speed = tokens[usable], speed[usable]
        passed = np.cumsum(np.maximum(np.diff(tokens, prepend=0.0), 0) / speed)
        every = self.column(_TOKENS)
        if not len(tokens):
            return Column(np.empty(0, np.int64), np.empty(0))
        return Column(every.rows, np.interp(every.values, np.append(0.0, tokens), np.append(0.0, passed)))


def read_metrics(file: Path) -> Metrics:
    """Read all columns of numbers.

    Rows without a step are passed over and counted. A last line without an end is passed over, too: a crash has cut it
    off, and its last number may lack digits.

    Raises:
        UserError: if the file cannot be read.
    """
    cells: dict[str, tuple[list[int], list[float]]] = {}
    unreadable = 0
    try:
        with file.open(newline="", encoding="utf-8", errors="replace") as opened:
            whole = opened.read()
        *lines, cut_off = whole.split("\n")
        rows = [next(csv.reader([line]), []) for line in lines]  # each by itself: a stray quote spoils one line alone
        names = rows.pop(0) if rows else []
        where = names.index(STEP) if STEP in names else len(names)
        for number, row in enumerate(rows):
            unreadable += _is_broken(row, where, len(names))
            step = _number(row[where : where + 1])
            if step is None or not math.isfinite(step):
                continue
            for name, cell in zip(names, row, strict=False):
                value = _number([cell])
                if value is not None:
                    at, values = cells.setdefault(name, ([], []))
                    at.append(number)
                    values.append(value)
    except (OSError, csv.Error) as error:
        raise UserError(f"the metrics file {file} cannot be read: {error}; check the path") from None
    columns = {name: Column(np.array(at), np.array(values)) for name, (at, values) in cells.items()}
    return Metrics(columns, unreadable, is_cut_off=bool(cut_off))


def _is_broken(row: list[str], where: int, width: int) -> bool:
    """Whether a row has no step, another number of cells than the first line, or one that is filled with no number."""
    if not row:
        return False
    step = _number(row[where : where + 1])
    if step is None or not math.isfinite(step) or len(row) != width:
        return True
    return any(cell and _number([cell]) is None for cell in row)


def _number(cells: list[str]) -> float | None:
    try:
        return float(cells[0])
    except (IndexError, ValueError):
        return None
