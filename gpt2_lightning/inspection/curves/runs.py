"""Runs with their metrics and the settings in which they differ."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from gpt2_lightning.inspection.curves.metrics_csv import FILE, STEP, Metrics, read_metrics

_CONFIG = "config.yaml"
_WHERE_NOT_WHAT = {"name", "run_dir", "runs_dir", "cache_dir", "resume", "replay", "plan", "price", "trusted_modules"}
_GROUPS_WITHOUT_EFFECT = ("logger.", "callbacks.pruning.")
"""Settings and groups of settings that do not affect the result of a run."""
_SEED = "seed"
_LABEL_METRICS = {"accuracy": "single", "exact_match": "multi", "mae": "regression"}
"""The training metric of each kind of label."""
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
    group: int = 0
    """Number of the group of runs that differ only by seed, in the order of runs."""

    @property
    def kind(self) -> str:
        """Kind of the loss; losses of different tasks or tokenizers are not comparable."""
        logged = {name.rpartition("/")[2] for name in self.metrics.columns}
        labels = [kind for metric, kind in _LABEL_METRICS.items() if metric in logged]
        if labels and "perplexity" not in logged:
            return f"classify ({labels[0]})"
        task = "instruct" if _shown(self.settings.get(f"task.{_TARGET}")) == "Instruct" else "text"
        tokenizer = self.settings.get(f"tokenizer.{_TARGET}")
        return f"{task} ({_shown(tokenizer)})" if tokenizer else task

    @property
    def best(self) -> tuple[float, float] | None:
        """The lowest finite validation loss and its step."""
        return self.best_of(_VAL_LOSS)

    def best_of(self, key: str, mode: Literal["min", "max"] = "min") -> tuple[float, float] | None:
        """The best finite value of a column and its step; None if there is none."""
        steps, values = self.metrics.points(STEP, key)
        if not np.isfinite(values).any():
            return None
        sign = 1 if mode == "min" else -1
        at = int(np.where(np.isfinite(values), sign * values, np.inf).argmin())
        return float(values[at]), float(steps[at])

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


def read_runs(
    folders: Sequence[Path], completed: Callable[[dict[str, Any]], dict[str, Any]] = lambda settings: settings
) -> list[Run]:
    """Read runs, sorted by the kind of the loss and its best value in validation; runs without one come last.

    Args:
        folders: of the runs.
        completed: adds defaults to the configuration of a run, so that those of different versions are comparable.

    Raises:
        UserError: if a metrics file cannot be read.
    """
    names = _names(folders)
    runs = [
        Run(name, read_metrics(folder / FILE), _settings(folder, completed))
        for name, folder in zip(names, folders, strict=True)
    ]
    return _grouped(sorted(runs, key=lambda run: (run.kind, run.best[0] if run.best else np.inf)))


def _grouped(runs: Sequence[Run]) -> list[Run]:
    """Number the groups of runs that differ only by seed. Runs with equal seeds are in different groups."""
    numbers: dict[tuple[str, int], int] = {}
    repeated: Counter[tuple[str, str]] = Counter()
    grouped = []
    for run in runs:
        others = {key: value for key, value in run.settings.items() if key != _SEED}
        settings = repr((run.kind, sorted(others.items()) if others else run.name))
        seed = repr(run.settings.get(_SEED))
        group = numbers.setdefault((settings, repeated[settings, seed]), len(numbers))
        repeated[settings, seed] += 1
        grouped.append(replace(run, group=group))
    return grouped


def members(runs: Sequence[Run]) -> list[list[int]]:
    """Indices of the runs of each group."""
    found: dict[int, list[int]] = {}
    for index, run in enumerate(runs):
        found.setdefault(run.group, []).append(index)
    return list(found.values())


def differing_settings(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Settings that differ between runs, by their shortest unambiguous names, with the value of each run."""
    known = [run.settings for run in runs if run.settings]
    keys = dict.fromkeys(key for settings in known for key in settings)
    differing = [key for key in keys if _differs(key, known)]
    leaves = [_leaf(key) for key in differing]
    short = [leaf if leaves.count(leaf) == 1 else key for key, leaf in zip(differing, leaves, strict=True)]
    return {
        name: [_shown(run.settings.get(key, UNSET)) for run in runs] for name, key in zip(short, differing, strict=True)
    }


def _differs(key: str, known: Sequence[dict[str, Any]]) -> bool:
    """Whether runs differ in a setting. Those with another target lack it, which the target says already."""
    is_target = key.rpartition(".")[2] == _TARGET
    values = {repr(settings.get(key, UNSET)) for settings in known if is_target or key in settings}
    return len(values) > 1


def _names(folders: Sequence[Path]) -> list[str]:
    """Paths relative to their common parent; for one run, the last two parts."""
    paths = [folder.absolute() for folder in folders]
    if len(paths) == 1:
        return ["/".join(paths[0].parts[-2:])]
    common = os.path.commonpath(paths) if paths else ""
    return [path.relative_to(common).as_posix() for path in paths]


def _settings(folder: Path, completed: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    try:
        content = yaml.safe_load((folder / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return _flat(completed(content), "") if isinstance(content, dict) else {}


def _flat(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat |= _flat(value, f"{name}.")
        elif name not in _WHERE_NOT_WHAT and not name.startswith(_GROUPS_WITHOUT_EFFECT):
            flat[name] = value
    return flat


def _leaf(key: str) -> str:
    return key.removesuffix(f".{_TARGET}").rpartition(".")[2]


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = "null" if value is None else str(value)
    if not text.startswith("gpt2_lightning."):
        return text
    module, _, made = text.rpartition(".")
    return module.rpartition(".")[2] if made.startswith("from_") else made  # tokenizers.char.from_corpus
