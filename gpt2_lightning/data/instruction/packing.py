"""Several short texts in one row."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence


def best_fit(widths: Sequence[int], capacity: int) -> list[list[int]]:
    """Pack items into few rows: best fit decreasing (Johnson et al. 1974).

    The widest comes first, each goes to the fullest row that has room for it; at most 11/9 of the rows that are needed,
    and a few more. The same widths always give the same rows.

    Args:
        widths: of the things, none above the capacity.
        capacity: of a row.

    Returns:
        The places in `widths` of what each row holds.
    """
    rows: list[list[int]] = []
    with_room: list[tuple[int, int]] = []  # room and number of each row, in this order
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
