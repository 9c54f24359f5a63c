"""Packing of short texts into rows."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence


def best_fit(widths: Sequence[int], capacity: int) -> list[list[int]]:
    """Pack items into few rows by best fit decreasing (Johnson et al. 1974).

    Items are placed in descending order of width, each into the fullest row with sufficient room. The number of rows is
    at most 11/9 of the optimum, plus a constant. The result is deterministic.

    Args:
        widths: widths of the items, none above the capacity.
        capacity: width of a row.

    Returns:
        For each row, the indices of its items in `widths`.
    """
    rows: list[list[int]] = []
    with_room: list[tuple[int, int]] = []  # (room, index) of each row, sorted
    for place in sorted(range(len(widths)), key=lambda place: -widths[place]):
        best = bisect_left(with_room, (widths[place], 0))
        if best < len(with_room):
            room, row = with_room.pop(best)
        else:
            room, row = capacity, len(rows)
            rows.append([])
        rows[row].append(place)
        insort(with_room, (room - widths[place], row))
    return rows
