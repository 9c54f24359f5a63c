"""The plot of a sweep: scales and tick labels of its panels."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gpt2_lightning.inspection.curves.sweep_plot import Point, draw_sweep

Panel = Callable[..., tuple[Axes, list[str]]]


@pytest.fixture
def panel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Panel:
    """Draw a sweep of one key; return the axes of its panel and the labels of the ticks within the axis."""
    drawn: list[Figure] = []
    save = Figure.savefig

    def saved(figure: Figure, *args: object, **kwargs: object) -> None:
        drawn.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", saved)

    def draw(values: list[str], logarithmic: tuple[str, ...] = ()) -> tuple[Axes, list[str]]:
        points = [Point(str(i), {"key": value, "other": "x"}, 2.0 + i, "done") for i, value in enumerate(values)]
        draw_sweep(points, ["key", "other"], tmp_path / "sweep.png", logarithmic)
        axes = drawn[-1].axes[0]
        low, high = axes.get_xlim()
        shown = [label for label in axes.get_xticklabels(which="both") if label.get_text()]
        shown = [label for label in shown if low <= label.get_position()[0] <= high]
        boxes = sorted((label.get_window_extent() for label in shown), key=lambda box: box.x0)
        if not any(label.get_rotation() for label in shown):
            assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes)), "labels overlap"
        return axes, [label.get_text() for label in shown]

    return draw


RATES = [0.000312520653814999, 0.00031352065381499946, 0.0015520653814999465, 0.0021]


@pytest.mark.parametrize("count", [2, 3, 4, 12])
def test_sampled_rates_have_short_labels_on_the_scale_they_were_drawn_on(panel: Panel, count: int) -> None:
    values = RATES if count == 4 else list(np.exp(np.random.default_rng(count).uniform(-8, -6, count)))
    axes, labels = panel([repr(float(value)) for value in values], ("key",))
    assert axes.get_xscale() == "log"
    assert len(labels) > 1
    assert max(map(len, labels)) <= 10


@pytest.mark.parametrize(
    "ends",
    [(1e-3, 2e-3), (3.4e-4, 8.8e-4), (1e-3, 9e-3), (1e-3, 1.1e-2), (1e-4, 5e-3), (1e-4, 9e-3), (1e-6, 0.3), (1.0, 1e9)],
)
def test_labels_of_all_ranges_stay_apart(panel: Panel, ends: tuple[float, float]) -> None:
    values = [repr(float(value)) for value in np.geomspace(*ends, 20)]
    assert panel(values, ("key",))[0].get_xscale() == "log"
    panel([repr(float(value)) for value in np.linspace(*ends, 20)])


def test_values_of_a_grid_are_the_ticks(panel: Panel) -> None:
    axes, labels = panel(["0.001", "0.003", "0.01"])
    assert (axes.get_xscale(), labels) == ("log", ["0.001", "0.003", "0.01"])
    axes, labels = panel(["1", "2", "3"])
    assert (axes.get_xscale(), labels) == ("linear", ["1", "2", "3"])
    assert panel(["cosine", "wsd"])[1] == ["cosine", "wsd"]


def test_long_choices_are_slanted(panel: Panel) -> None:
    axes, labels = panel([f"/a/long/path/of/a/corpus/{i}.txt" for i in range(4)])
    assert len(labels) == 4
    assert all(label.get_rotation() for label in axes.get_xticklabels())
