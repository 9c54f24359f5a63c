"""Plots of a report: confusion matrix, reliability diagram, ROC curves, scatter plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning.atomic import replacing
from gpt2_lightning.label_kinds.reports.calibration import Calibration
from gpt2_lightning.label_kinds.reports.roc import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _GRAY = "#0072B2", "#888888"
_SEQUENCE = "petroff10"  # ten colors that are distinguishable with color blindness (Petroff 2021)
_NUMBERS_UP_TO, _NAMES_UP_TO, _LONGEST_NAME = 15, 60, 24


def draw_confusion(confusion: NDArray[np.int64], labels: Sequence[str], file: Path) -> None:
    """Draw a confusion matrix, colored by the share of a label's rows; above 15 classes without numbers."""
    from matplotlib.ticker import PercentFormatter

    n = len(labels)
    side = 2.6 + 0.62 * min(n, _NUMBERS_UP_TO)
    figure = _figure((side + 1.3, side + 0.3))
    axes = figure.add_subplot()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if n <= _NUMBERS_UP_TO:
        for (row, column), count in np.ndenumerate(confusion):
            share = shares[row, column]
            text = f"{count:,}\n{share:.1%}" if n <= _NUMBERS_UP_TO // 2 else f"{count:,}"
            color = "white" if share > 0.55 else "black"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize="small")
    if n <= _NAMES_UP_TO:
        names = [_literally(_shortened(label)) for label in labels]
        size = "medium" if n <= _NUMBERS_UP_TO else 7
        axes.set_xticks(range(n), names, fontsize=size)
        axes.set_yticks(range(n), names, fontsize=size)
        if n > 3:
            for name in axes.get_xticklabels():
                name.set(rotation=45, horizontalalignment="right", rotation_mode="anchor")
    axes.set(xlabel="answer", ylabel="label")
    axes.tick_params(length=0)
    figure.colorbar(image, shrink=0.8, label="share of the label's rows", format=PercentFormatter(1, decimals=0))
    _save(figure, file)


def draw_reliability(calibration: Calibration, file: Path) -> None:
    """Draw a reliability diagram: accuracy by probability, and below it the number of predictions in each bin."""
    figure = _figure((5.2, 5.6))
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    axes.plot([0, 1], [0, 1], color=_GRAY, linewidth=1, linestyle="--", label="perfectly calibrated")
    axes.plot(calibration.confidence, calibration.accuracy, "o-", color=_BLUE, markersize=5, label="this classifier")
    axes.vlines(
        calibration.confidence, calibration.confidence, calibration.accuracy, color=_BLUE, alpha=0.3, linewidth=4
    )
    axes.set(ylabel="share that is true", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_title(f"expected calibration error {calibration.error:.4f}", fontsize="medium")
    axes.legend(frameon=False, loc="upper left")
    counts.bar(calibration.confidence, calibration.count, width=0.03, color=_BLUE)
    counts.set(xlabel="probability", ylabel="answers", yscale="log")
    counts.set_ylim(bottom=0.7)
    _tidy(axes)
    _tidy(counts)
    _save(figure, file)


def draw_curves(curves: Sequence[Curve], aurocs: Sequence[float], file: Path) -> None:
    """Draw the ROC curve of each class; above ten classes all curves are gray, except for their mean.

    Args:
        curves: one or more curves.
        aurocs: area under each curve.
        file: path of the PNG.
    """
    import matplotlib as mpl

    figure = _figure((5.6, 5.2))
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=_GRAY, linewidth=1, linestyle="--")
    colors = mpl.color_sequences[_SEQUENCE]
    many = len(curves) > len(colors)
    for place, (curve, area) in enumerate(zip(curves, aurocs, strict=True)):
        axes.plot(
            curve.false_positives,
            curve.true_positives,
            color=_GRAY if many else colors[place],
            alpha=0.35 if many else 1,
            linewidth=0.7 if many else 1.6,
            label=None if many else _literally(f"{_shortened(curve.label)}: {area:.4f}"),
        )
    if many:
        grid = np.linspace(0, 1, 201)
        mean = np.mean([np.interp(grid, curve.false_positives, curve.true_positives) for curve in curves], axis=0)
        axes.plot(grid, mean, color=_BLUE, linewidth=2, label=f"mean of {len(curves)}: {np.mean(aurocs):.4f}")
    axes.set(xlabel="false positives, share of the other rows", ylabel="true positives, share of the label's rows")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.legend(frameon=False, loc="lower right", title="area under the curve")
    _tidy(axes)
    _save(figure, file)


def draw_scatter(true: NDArray[np.float64], answers: NDArray[np.float64], file: Path) -> None:
    """Draw a scatter plot of predictions over labels."""
    figure = _figure((5.4, 5.2))
    axes = figure.add_subplot()
    ends = [min(true.min(), answers.min()), max(true.max(), answers.max())]
    axes.plot(ends, ends, color=_GRAY, linewidth=1, linestyle="--", label="perfect")
    axes.scatter(true, answers, s=12, color=_BLUE, alpha=0.4, linewidths=0)
    axes.set(xlabel="label", ylabel="answer")
    axes.legend(frameon=False, loc="upper left")
    _tidy(axes)
    _save(figure, file)


def _figure(size: tuple[float, float]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _tidy(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, file: Path) -> None:
    with replacing(file) as temporary:
        figure.savefig(temporary, format="png", metadata={})


def _shortened(label: str) -> str:
    return label if len(label) <= _LONGEST_NAME else f"{label[: _LONGEST_NAME - 1]}…"


def _literally(text: str) -> str:
    """Escape `$` for mathtext."""
    return text.replace("$", r"\$")
