"""Results of a sweep, best first: a table on the terminal, a CSV file and a plot."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.app.output.terminal import wide_console
from gpt2_lightning.app.sweeping.status import Status
from gpt2_lightning.atomic import write_text
from gpt2_lightning.inspection.curves.metrics_csv import FILE as METRICS
from gpt2_lightning.inspection.curves.runs import read_runs
from gpt2_lightning.inspection.curves.sweep_plot import Point, draw_sweep, short
from gpt2_lightning.training.metrics.monitor import VAL_LOSS, Monitor

log = logging.getLogger(__name__)

CSV_FILE, PICTURE = "sweep.csv", "sweep.png"
_COLUMNS_IN_FILES = 500
_ACCURACY = "val/accuracy"


@dataclass(frozen=True)
class _Reached:
    """Metrics of a run; None for those that it does not have."""

    best: float | None = None
    """Best value of the monitored metric."""
    best_step: float | None = None
    lowest: float | None = None
    """Lowest validation loss."""
    last: float | None = None
    accuracy: float | None = None
    """Validation accuracy of a classifier at the best step."""
    step: float | None = None


def tabulate(
    folder: Path, runs: list[Path], monitor: Monitor, logarithmic: Collection[str] = (), has_ended: bool = True
) -> dict[Path, Status]:
    """Print the results of a sweep, and write them into its folder as a CSV file and a plot.

    Args:
        folder: folder of the sweep.
        runs: folders of the runs.
        monitor: metric by which runs are compared.
        logarithmic: keys that were sampled on a logarithmic scale.
        has_ended: whether to plot; a sweep that is stopped ends without waiting for the plot, which its resume makes.

    Returns:
        The status of each run by folder.
    """
    statuses = {run: Status.read(run) or Status({}, "") for run in runs}
    figures = {run: _figures(run, monitor) for run in runs}
    best_first = sorted(runs, key=lambda run: _order(figures[run].best, runs.index(run), monitor))
    keys = list(dict.fromkeys(key for status in statuses.values() for key in status.settings))
    _write_csv(folder, best_first, keys, statuses, figures, monitor)
    _print(best_first, keys, statuses, figures, monitor)
    log.info("  %-16s %s", "table", f"{display_path(folder)}/{CSV_FILE}")
    if has_ended:
        points = [Point(run.name, statuses[run].settings, figures[run].best, statuses[run].state) for run in best_first]
        draw_sweep(points, keys, folder / PICTURE, logarithmic, monitor.label)
        log.info("  %-16s %s", "picture", f"{display_path(folder)}/{PICTURE}")
    return statuses


def _order(value: float | None, number: int, monitor: Monitor) -> tuple[float, int]:
    return (float("inf") if value is None else value if monitor.mode == "min" else -value, number)


def _figures(run: Path, monitor: Monitor) -> _Reached:
    if not (run / METRICS).exists():
        return _Reached()
    (read,) = read_runs([run])
    best, best_step = read.best_of(monitor.metric, monitor.mode) or (None, None)
    lowest = read.best[0] if read.best else None
    steps, accuracies = read.metrics.points("step", _ACCURACY)
    at_best = [float(value) for step, value in zip(steps, accuracies, strict=True) if step == best_step]
    accuracy = at_best[-1] if at_best else None
    return _Reached(best, best_step, lowest, read.reached(VAL_LOSS), accuracy, read.reached("step"))


def _write_csv(
    folder: Path,
    runs: list[Path],
    keys: list[str],
    statuses: dict[Path, Status],
    figures: dict[Path, _Reached],
    monitor: Monitor,
) -> None:
    more = [] if monitor.metric == VAL_LOSS else [f"best {monitor.metric}"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["run", *keys, *more, "best_val_loss", "best_step", "val_loss", "val_accuracy", "step", "seconds", "state"]
    )
    for run in runs:
        status, reached = statuses[run], figures[run]
        writer.writerow(
            [
                run.name,
                *(status.settings.get(key, "") for key in keys),
                *(_exact(reached.best) for _ in more),
                *map(_exact, (reached.lowest, reached.best_step, reached.last, reached.accuracy)),
                "" if reached.step is None else f"{reached.step:.0f}",
                f"{status.seconds:.1f}",
                status.state,
            ]
        )
    write_text(folder / CSV_FILE, text.getvalue())


def _print(
    runs: list[Path],
    keys: list[str],
    statuses: dict[Path, Status],
    figures: dict[Path, _Reached],
    monitor: Monitor,
) -> None:
    best = "best val loss" if monitor.metric == VAL_LOSS else f"best {monitor.metric}"
    classifies = any(reached.accuracy is not None for reached in figures.values())
    grid = Table(box=box.SIMPLE, pad_edge=False)
    grid.add_column("run", no_wrap=True)
    for key in keys:
        grid.add_column(key)
    for name in (best, "at step", *(["accuracy"] if classifies else []), "steps", "time"):
        grid.add_column(name, justify="right")
    grid.add_column("state")
    for run in runs:
        status, reached = statuses[run], figures[run]
        cells = [
            run.name,
            *(short(status.settings.get(key, "")) for key in keys),
            "" if reached.best is None else f"{reached.best:.4f}",
            _whole(reached.best_step),
            *(["" if reached.accuracy is None else f"{reached.accuracy:.3f}"] if classifies else []),
            _whole(reached.step),
            _time(status.seconds),
            status.state,
        ]
        grid.add_row(*map(Text, cells))
    wide_console(_COLUMNS_IN_FILES).print(grid)


def _exact(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
