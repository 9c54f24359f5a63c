"""Draw the plots of docs/performance.md from the results of `benchmarks.cost`.

python -m benchmarks.cost.plot [FOLDER]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from benchmarks.cost.points import STEPS, scaled, theory
from benchmarks.results import FOLDER

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
_LABELS = {
    "context": "context, tokens",
    "width": "width",
    "depth": "blocks",
    "batch": "batch, sequences",
    "vocabulary": "vocabulary",
    "generation": "generated tokens",
    "prepare": "corpus, MB",
}
_MEASURED, _THEORY = "#1f5fa8", "#b0502a"
Figures = Mapping[str, Sequence[Mapping[str, float]]]


def main() -> None:
    folder = Path(sys.argv[1]) if sys.argv[1:] else PICTURES
    figures = json.loads((FOLDER / "cost.json").read_text())["figures"]
    for file in draw(figures, folder):
        print(f"wrote {file}")


def draw(figures: Figures, folder: Path) -> list[Path]:
    """Write `cost-training.svg` and `cost-inference.svg`: a column for each series, time above memory."""
    files = []
    parts = {"training": [*STEPS], "inference": ["generation", "prepare"]}
    for name, series in parts.items():
        if not all(figures.get(one) for one in series):
            continue
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "cost", "font.size": 9}):
            figure, axes = plt.subplots(2, len(series), figsize=(2.6 * len(series), 4.6), squeeze=False)
            for column, one in enumerate(series):
                _panel(axes[0, column], one, figures[one], "seconds")
                _panel(axes[1, column], one, figures[one], "megabytes")
                axes[1, column].set_xlabel(_LABELS[one])
            for row, label in enumerate(("seconds", "megabytes")):
                axes[row, 0].set_ylabel(label)
            axes[0, 0].legend(frameon=False, fontsize=8)
            figure.tight_layout()
            files.append(folder / f"cost-{name}.svg")
            figure.savefig(files[-1], metadata={"Date": None})
            plt.close(figure)
    return files


def _panel(axes: Axes, series: str, points: Sequence[Mapping[str, float]], unit: str) -> None:
    """Plot a series on logarithmic axes, with the theoretical line where there is one."""
    values = [point["value"] for point in points]
    seconds = [point["seconds"] for point in points]
    if unit == "seconds":
        found, expected = seconds, scaled(theory(series), seconds)
    else:
        found = [point["bytes"] / 1e6 for point in points]
        expected = [point["expected_bytes"] / 1e6 for point in points if "expected_bytes" in point]
    if expected:
        axes.plot(values, expected, "--", color=_THEORY, linewidth=1.2, label="theory")
    axes.plot(values, found, "o-", color=_MEASURED, linewidth=1.2, markersize=3.5, label="measured")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(values)
    axes.xaxis.set_major_formatter(FuncFormatter(_short))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _short(value: float, _: Any = None) -> str:
    """Format 65536 as 64k."""
    return f"{value / 1024:g}k" if value >= 1024 else f"{value:g}"


if __name__ == "__main__":
    main()
