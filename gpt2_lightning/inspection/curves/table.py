"""Table of runs with their results and differing settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpt2_lightning.inspection.curves.runs import UNSET, Run, differing_settings

_MOST_IN_A_LABEL = 60


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
    columns: dict[str, list[tuple[str, float | str | None]]] = {
        "best val loss": [(_loss(loss), loss) for loss, _ in best],
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


def labels(runs: Sequence[Run]) -> list[str]:
    """Legend labels: the name of each run, and as many of its differing settings as fit."""
    settings = differing_settings(runs)
    found = []
    for number, run in enumerate(runs):
        label = run.name
        stated = [f"{name}={values[number]}" for name, values in settings.items() if values[number] != UNSET]
        for text in [f"{', ' if place else ': '}{one}" for place, one in enumerate(stated)]:
            if len(label) + len(text) > _MOST_IN_A_LABEL:
                label += " …"
                break
            label += text
        found.append(label)
    return found


def _loss(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
