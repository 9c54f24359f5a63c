"""The file of an evaluation, `results.json`.

It has neither dates nor durations, so that an evaluation that is repeated writes the same bytes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2_lightning.atomic import write_text
from gpt2_lightning.errors import UserError, shortened
from gpt2_lightning.evaluation.results.benchmark_result import BenchmarkResult
from gpt2_lightning.evaluation.results.metric import Metric
from gpt2_lightning.json_text import loads

FILE = "results.json"
FORMAT = 1
"""Incremented when older versions cannot read what this one writes."""


@dataclass(frozen=True)
class EvaluatedModel:
    """The model of an evaluation."""

    location: str
    """The checkpoint, folder or Hub address."""
    step: int | None
    """The optimizer step, for a checkpoint of a run."""
    weights: str
    """SHA-256 of the weights; see `checkpoints.content.weights_hash`."""
    parameters: int
    """Number of parameters."""
    tokenizer: str
    """SHA-256 of the tokenizer."""
    block_size: int
    """Size of the context, in tokens."""


@dataclass(frozen=True)
class Results:
    """Results of a model on benchmarks."""

    model: EvaluatedModel
    benchmarks: Mapping[str, BenchmarkResult]
    """Results by name, in the order in which they were first measured."""

    def text(self) -> str:
        """Return the content of the file."""
        plain = {
            "format": FORMAT,
            "model": dataclasses.asdict(self.model),
            "benchmarks": {name: _plain(result) for name, result in self.benchmarks.items()},
        }
        return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def add_results(file: Path, model: EvaluatedModel, results: Mapping[str, BenchmarkResult]) -> Results:
    """Add results to those that the file has of the same weights; a benchmark of the same name is replaced.

    Args:
        file: path of `results.json`; it is replaced atomically.
        model: the model.
        results: its results by name.

    Returns:
        The content of the file.

    Raises:
        UserError: if the file cannot be written, or is not one of this or an earlier version.
    """
    before = read_results(file) if file.exists() else None
    kept = before.benchmarks if before is not None and before.model.weights == model.weights else {}
    merged = Results(model, {**kept, **results})
    try:
        write_text(file, merged.text())
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}; free or change the folder") from None
    return merged


def read_results(file: Path) -> Results:
    """Read the file of an evaluation.

    Raises:
        UserError: if it cannot be read, or is not one of this or an earlier version.
    """
    try:
        plain = loads(file.read_text(encoding="utf-8"))
        if plain["format"] > FORMAT:
            raise UserError(
                f"{file} has format {shortened(plain['format'])}, this version reads up to {FORMAT}; upgrade, or set "
                "output to another folder"
            )
        found = {name: _result(name, entry) for name, entry in plain["benchmarks"].items()}
        return Results(EvaluatedModel(**plain["model"]), found)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{file} is not a file of results: {error!r}; remove it, or set output to another folder"
        ) from None


def _plain(result: BenchmarkResult) -> dict[str, Any]:
    return {
        "settings": dict(result.settings),
        "data": {"source": result.source, "sha256": result.digest, "notes": list(result.notes)},
        "items": result.n_items,
        "cut": result.n_cut,
        "metrics": {metric.name: metric.to_plain() for metric in result.metrics},
    }


def _result(name: str, plain: Mapping[str, Any]) -> BenchmarkResult:
    return BenchmarkResult(
        name,
        tuple(Metric(metric, **entry) for metric, entry in plain["metrics"].items()),
        plain["items"],
        plain["data"]["source"],
        plain["data"]["sha256"],
        plain["settings"],
        tuple(plain["data"]["notes"]),
        plain["cut"],
    )
