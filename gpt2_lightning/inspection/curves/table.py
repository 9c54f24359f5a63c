"""Table of runs with their results and differing settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpt2_lightning.inspection.curves.runs import UNSET, Run, differing_settings, members

_MOST_IN_A_LABEL = 60
_LONG = 1e9


@dataclass(frozen=True)
class Row:
    """A run."""

    name: str
    cells: list[str]
    values: list[float | str | None]
    """Sort keys of the cells."""


@dataclass(frozen=True)
class RunTable:
    """Rows of runs; the column of names has no head."""

    head: list[str]
    is_numeric: list[bool]
    """Whether each column is numeric, and aligned to the right."""
    rows: list[Row]


def tabulate(runs: Sequence[Run]) -> RunTable:
    """Tabulate runs, without settings that are equal in all runs and without empty columns."""
    settings = differing_settings(runs)
    best = [run.best or (None, None) for run in runs]
    kinds = [run.kind for run in runs] if len({run.kind for run in runs}) > 1 else [""] * len(runs)
    columns: dict[str, list[tuple[str, float | str | None]]] = {
        "kind of loss": [(kind, kind) for kind in kinds],
        "best val loss": [(_loss(loss), loss) for loss, _ in best],
        "mean over seeds": _over_seeds(runs),
        "at step": [(_whole(step), step) for _, step in best],
        "last train loss": [(_loss(value), value) for value in (run.reached("train/loss") for run in runs)],
        "steps": [(_whole(value), value) for value in (run.reached("step") for run in runs)],
        "tokens": [(_whole(value), value) for value in (run.reached("tokens") for run in runs)],
        "training time": [(_time(value), value) for value in (run.reached("time") for run in runs)],
        **{name: [(value, value) for value in values] for name, values in settings.items()},
        "remarks": [(text, text) for text in ("; ".join(run.remarks) for run in runs)],
    }
    filled = {name: column for name, column in columns.items() if any(cell for cell, _ in column)}
    rows = [
        Row(run.name, *map(list, zip(*(column[number] for column in filled.values()), strict=True)))
        for number, run in enumerate(runs)
    ]
    is_numeric = [all(not isinstance(value, str) for _, value in column) for column in filled.values()]
    return RunTable(list(filled), is_numeric, rows)


def _over_seeds(runs: Sequence[Run]) -> list[tuple[str, float | str | None]]:
    """Mean and sample standard deviation of the best losses of each group of several runs, for each run."""
    cells: dict[int, tuple[str, float | str | None]] = {}
    for group in members(runs):
        losses = [best[0] for index in group if (best := runs[index].best)]
        if len(losses) > 1:
            mean, deviation = float(np.mean(losses)), float(np.std(losses, ddof=1))
            cells[runs[group[0]].group] = (f"{mean:.4f} ± {deviation:.4f} ({len(losses)})", mean)
    return [cells.get(run.group, ("", None)) for run in runs]


def labels(runs: Sequence[Run]) -> list[str]:
    """Legend labels of runs: the name of each, and as many of its differing settings as fit."""
    return [_label(run.name, stated) for run, stated in zip(runs, _stated(runs), strict=True)]


def group_labels(runs: Sequence[Run]) -> list[str]:
    """Legend labels of the groups of runs that differ only by seed."""
    stated = _stated(runs, without="seed")
    return [
        _label(runs[group[0]].name if len(group) == 1 else f"{len(group)} seeds", stated[group[0]])
        for group in members(runs)
    ]


def _stated(runs: Sequence[Run], without: str = "") -> list[list[str]]:
    settings = differing_settings(runs)
    return [
        [f"{name}={values[number]}" for name, values in settings.items() if name != without and values[number] != UNSET]
        for number in range(len(runs))
    ]


def _label(name: str, stated: Sequence[str]) -> str:
    label = name
    for text in [f"{', ' if place else ': '}{one}" for place, one in enumerate(stated)]:
        if len(label) + len(text) > _MOST_IN_A_LABEL:
            return f"{label} …"
        label += text
    return label


def _loss(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}" if abs(value) < _LONG else f"{value:.4g}"


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _time(seconds: float | None) -> str:
    if seconds is None or not seconds < _LONG:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
