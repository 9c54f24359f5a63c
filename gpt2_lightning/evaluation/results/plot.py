"""Plot of an evaluation, `results.png`: the main metric of each benchmark beside OpenAI's GPT-2."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gpt2_lightning.atomic import replacing
from gpt2_lightning.evaluation.results.benchmark_result import BenchmarkResult
from gpt2_lightning.evaluation.results.metric import Metric
from gpt2_lightning.evaluation.results.published import published
from gpt2_lightning.evaluation.results.results_file import Results
from gpt2_lightning.evaluation.results.table import format_interval, format_value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FILE = "results.png"
_BLUE, _GRAY = "#0072B2", "#777777"
_ROW, _EDGE = 0.95, 0.5
"""Inches."""
_LOGARITHMIC_FROM = 8.0
"""Ratio of the largest to the smallest value from which an axis without a fixed range is logarithmic."""


def draw_results(results: Results, file: Path) -> None:
    """Plot the main metric of each benchmark with its 95 % interval, as PNG.

    Args:
        results: results on at least one benchmark.
        file: the file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = [(result, result.metrics[0]) for result in results.benchmarks.values() if result.metrics]
    figure = Figure(figsize=(7.5, _EDGE + _ROW * len(drawn)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (result, metric) in zip(figure.subplots(len(drawn), 1, squeeze=False)[:, 0], drawn, strict=True):
        _draw_row(axes, result, metric)
    figure.supxlabel("● this model with its 95 % interval   │ OpenAI's GPT-2, where published", fontsize=8, color=_GRAY)
    with replacing(file) as temporary:
        figure.savefig(temporary, format="png", metadata={})


def _draw_row(axes: Axes, result: BenchmarkResult, metric: Metric) -> None:
    scale = 100.0 if metric.is_share else 1.0
    value = scale * metric.value
    low, high = (value if bound is None else scale * bound for bound in (metric.low, metric.high))
    known = published(result, metric.name)
    others = {} if known is None else known.values
    for size, other in others.items():
        axes.axvline(other, color=_GRAY, linewidth=1.2, ymax=0.62)
        axes.annotate(size, (other, 0.64), xycoords=("data", "axes fraction"), fontsize=7, color=_GRAY, ha="center")
    lengths = [[max(value - low, 0.0)], [max(high - value, 0.0)]]  # a percentile interval may exclude the value
    axes.errorbar([value], [0], xerr=lengths, fmt="o", color=_BLUE, capsize=4, markersize=6)
    ends = [low, high, *others.values()]
    if not metric.is_share and min(ends) > 0 and max(ends) / min(ends) > _LOGARITHMIC_FROM:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.minorticks_off()
    axes.margins(x=0.08)
    axes.set(ylim=(-1, 1.6), yticks=[])
    axes.tick_params(labelsize=7.5, length=3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    arrow = "higher is better" if metric.higher_is_better else "lower is better"
    interval = format_interval(metric)
    shown = f"{format_value(metric)}{f' ({interval})' if interval else ''}"
    axes.set_title(f"{result.name}, {metric.name} ({arrow}): {shown}".replace("$", r"\$"), fontsize=8.5, loc="left")
