"""Reader of metrics.csv that tolerates damaged files."""

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
_LARGEST = 1e38
"""About the largest number of float32; a metric beyond it has overflowed, and no axis could show it."""
_SLOWEST = 1e-9
"""Tokens per second below which a number is no throughput."""
_TOKENS, _SPEED = "tokens", "tokens_per_second"


@dataclass(frozen=True)
class Column:
    """The numeric cells of a column; NaN counts as numeric."""

    rows: NDArray[np.int64]
    """Row indices of the cells, ascending."""
    values: Floats


@dataclass(frozen=True)
class Metrics:
    """Logged metrics of a run."""

    columns: dict[str, Column]
    """Columns with at least one numeric cell."""
    unreadable: int = 0
    """Number of damaged lines; their readable cells are in the columns."""
    is_cut_off: bool = False
    """Whether the last line is incomplete, and was skipped."""

    def column(self, key: str) -> Column:
        """A column by name; empty if there is none."""
        return self.columns.get(key, Column(np.empty(0, np.int64), np.empty(0)))

    def points(self, x: str, y: str) -> tuple[Floats, Floats]:
        """Values of two columns in the rows where both are numeric, and the first is finite."""
        across = self.seconds() if x == "time" else self.column(x)
        _, first, second = np.intersect1d(across.rows, self.column(y).rows, assume_unique=True, return_indices=True)
        finite = np.isfinite(across.values[first])
        return across.values[first][finite], self.column(y).values[second][finite]

    def seconds(self) -> Column:
        """Training time up to each row in seconds, without validation and samples.

        A row with a throughput gives the seconds since the last such row; rows between are interpolated by tokens.
        """
        tokens, speed = self.points(_TOKENS, _SPEED)
        usable = np.isfinite(speed) & (speed > _SLOWEST)
        tokens, speed = tokens[usable], speed[usable]
        passed = np.cumsum(np.maximum(np.diff(tokens, prepend=0.0), 0) / speed)
        every = self.column(_TOKENS)
        if not len(tokens):
            return Column(np.empty(0, np.int64), np.empty(0))
        return Column(every.rows, np.interp(every.values, np.append(0.0, tokens), np.append(0.0, passed)))


def read_metrics(file: Path) -> Metrics:
    """Read all numeric columns.

    Rows without a step are skipped and counted as unreadable. A last line without a line feed is skipped, since a crash
    may have truncated its last number.

    Raises:
        UserError: if the file cannot be read.
    """
    cells: dict[str, tuple[list[int], list[float]]] = {}
    unreadable = 0
    try:
        with file.open(newline="", encoding="utf-8", errors="replace") as opened:
            whole = opened.read()
        *lines, cut_off = whole.split("\n")
        rows = [
            next(csv.reader([line]), []) for line in lines
        ]  # separately, so that a stray quote damages one line only
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
    """Whether a row lacks a step, has a wrong number of cells, or a non-empty cell that is not numeric."""
    if not row:
        return False
    step = _number(row[where : where + 1])
    if step is None or not math.isfinite(step) or len(row) != width:
        return True
    return any(cell and _number([cell]) is None for cell in row)


def _number(cells: list[str]) -> float | None:
    try:
        number = float(cells[0])
    except (IndexError, ValueError):
        return None
    return math.copysign(math.inf, number) if abs(number) > _LARGEST else number
