from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpt2_lightning.data.instruction.packing import best_fit


def test_a_hand_worked_packing() -> None:
    """6, 5 and 5 open rows of 10; 4 fits the fullest best, and so do 3 and 2 together."""
    rows = best_fit([2, 6, 3, 5, 4, 5], 10)
    assert [[2, 6, 3, 5, 4, 5][place] for row in rows for place in row] == [6, 4, 5, 5, 3, 2]
    assert rows == [[1, 4], [3, 5], [2, 0]]


def test_the_fullest_row_that_has_room_is_taken() -> None:
    """The first row that has room would be another: 13 leaves it 10."""
    assert best_fit([13, 11, 11, 1], 23) == [[0], [1, 2, 3]]


@given(st.lists(st.integers(1, 13), max_size=60))
def test_everything_is_packed_once_and_fits(widths: list[int]) -> None:
    rows = best_fit(widths, 13)
    assert sorted(place for row in rows for place in row) == list(range(len(widths)))
    filled = [sum(widths[place] for place in row) for row in rows]
    assert all(fill <= 13 for fill in filled)


@given(st.lists(st.integers(1, 13), min_size=2, max_size=60))
def test_no_two_rows_could_be_one(widths: list[int]) -> None:
    fills = sorted(sum(widths[place] for place in row) for row in best_fit(widths, 13))
    assert len(fills) < 2 or fills[0] + fills[1] > 13


def test_the_same_widths_always_give_the_same_rows() -> None:
    widths = [place * place % 17 + 1 for place in range(200)]
    assert best_fit(widths, 40) == best_fit(list(widths), 40)
