"""Runs with their metrics and the settings in which they differ."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from gpt2_lightning.inspection.curves.metrics_csv import FILE, STEP, Metrics, read_metrics

_CONFIG = "config.yaml"
_WHERE_NOT_WHAT = {"name", "run_dir", "runs_dir", "cache_dir", "resume"}
"""Settings that do not affect the result of a run."""
_TARGET = "_target_"
_VAL_LOSS = "val/loss"
UNSET = "—"
"""Displayed for a setting that a configuration lacks."""


@dataclass(frozen=True)
class Run:
    """Content of the folder of a run."""

    name: str
    """Unique display name."""
    metrics: Metrics
    settings: dict[str, Any]
    """Values by dotted name; empty if the configuration is missing or damaged."""

    @property
    def best(self) -> tuple[float, float] | None:
        """The lowest finite validation loss and its step."""
        steps, losses = self.metrics.points(STEP, _VAL_LOSS)
        if not np.isfinite(losses).any():
            return None
        at = int(np.where(np.isfinite(losses), losses, np.inf).argmin())
        return float(losses[at]), float(steps[at])

    @property
    def remarks(self) -> list[str]:
        """Irregularities of the run."""
        if len(self.metrics.column(STEP).values):
            found = [] if len(self.metrics.column(_VAL_LOSS).values) else ["never validated"]
            found += [] if self.settings else ["settings unknown"]
        else:
            found = ["no metrics"]
        for key in ("train/loss", _VAL_LOSS):
            steps, losses = self.metrics.points(STEP, key)
            broken = steps[~np.isfinite(losses)]
            found += [f"{key} is no number from step {broken[0]:,.0f}"] if len(broken) else []
        if lines := self.metrics.unreadable:
            found.append(f"{lines:,} {'line' if lines == 1 else 'lines'} unreadable")
        return [*found, "cut off"] if self.metrics.is_cut_off else found

    def reached(self, key: str) -> float | None:
        """The last value of a column, or of `time` in seconds; None if there is none."""
        column = self.metrics.seconds() if key == "time" else self.metrics.column(key)
        return float(column.values[-1]) if len(column.values) else None


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read runs, in ascending order of the best validation loss; runs without one come last.

    Raises:
        UserError: if a metrics file cannot be read.
    """
    names = _names(folders)
    runs = [
        Run(name, read_metrics(folder / FILE), _settings(folder)) for name, folder in zip(names, folders, strict=True)
    ]
    return sorted(runs, key=lambda run: run.best[0] if run.best else np.inf)


def differing_settings(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Settings that differ between runs, by their shortest unambiguous names, with the value of each run."""
    known = [run.settings for run in runs if run.settings]
    keys = dict.fromkeys(key for settings in known for key in settings)
    differing = [key for key in keys if len({repr(settings.get(key, UNSET)) for settings in known}) > 1]
    leaves = [_leaf(key) for key in differing]
    short = [leaf if leaves.count(leaf) == 1 else key for key, leaf in zip(differing, leaves, strict=True)]
    return {
        name: [_shown(run.settings.get(key, UNSET)) for run in runs] for name, key in zip(short, differing, strict=True)
    }


def _names(folders: Sequence[Path]) -> list[str]:
    """Paths relative to their common parent; for one run, the last two parts."""
    paths = [folder.absolute() for folder in folders]
    if len(paths) == 1:
        return ["/".join(paths[0].parts[-2:])]
    common = os.path.commonpath(paths) if paths else ""
    return [path.relative_to(common).as_posix() for path in paths]


def _settings(folder: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load((folder / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return _flat(content, "") if isinstance(content, dict) else {}


def _flat(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat |= _flat(value, f"{name}.")
        elif name not in _WHERE_NOT_WHAT:
            flat[name] = value
    return flat


def _leaf(key: str) -> str:
    return key.removesuffix(f".{_TARGET}").rpartition(".")[2]


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = "null" if value is None else str(value)
    return text.rpartition(".")[2] if text.startswith("gpt2_lightning.") else text
