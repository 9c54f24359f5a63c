"""Moving averages by hand, and long lines that keep their peaks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gpt2_lightning.inspection.curves.smoothing import default_weight, smooth, thin


def test_an_average_by_hand() -> None:
    """0.5·4 / 0.5; (0.5·2 + 0.5·2) / 0.75; (0.5·2 + 0.5·0) / 0.875."""
    assert smooth(np.array([4.0, 2.0, 0.0]), 0.5).tolist() == pytest.approx([4, 2 / 0.75, 1 / 0.875])


def test_an_average_of_a_constant_is_the_constant_from_the_start() -> None:
    assert smooth(np.full(50, 3.5), 0.98).tolist() == pytest.approx([3.5] * 50)


def test_a_weight_of_zero_changes_nothing() -> None:
    values = np.array([1.0, 5.0, -2.0])
    assert smooth(values, 0.0).tolist() == values.tolist()


def test_what_is_no_number_stays_and_spoils_nothing() -> None:
    found = smooth(np.array([4.0, math.nan, 2.0, math.inf, 0.0]), 0.5)
    assert math.isnan(found[1])
    assert found[3] == math.inf
    assert found[[0, 2, 4]].tolist() == pytest.approx([4, 2 / 0.75, 1 / 0.875])


def test_a_short_line_is_kept_whole() -> None:
    assert thin(np.arange(10.0), 10).tolist() == list(range(10))


def test_a_long_line_keeps_its_peaks_and_ends() -> None:
    values = np.sin(np.arange(100_000) / 1000)
    values[[34_567, 71_234]] = 50, -50
    kept = thin(values, 2000)
    assert {0, 34_567, 71_234, 99_999} <= set(kept.tolist())
    assert len(kept) <= 2000
    assert (np.diff(kept) > 0).all()
    assert np.diff(kept).max() <= 2 * 101, "no stretch is left out"


def test_a_stretch_without_numbers_stays_a_gap() -> None:
    values = np.ones(1000)
    values[400:600] = math.nan
    kept = thin(values, 100)
    gaps = kept[np.isnan(values[kept])]
    assert 400 <= gaps.min() < gaps.max() < 600
    assert np.isfinite(values[kept[(kept < 400) | (kept >= 600)]]).all()


def test_the_default_leaves_short_lines_as_they_are_and_reaches_over_five_points_of_long_ones() -> None:
    weights = [default_weight(points) for points in (0, 10, 20, 40, 80, 100, 10_000)]
    assert weights == pytest.approx([0, 0, 0, 0.5, 0.75, 0.8, 0.8])
