"""Published results of OpenAI's GPT-2, from `published.csv`."""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2_lightning.evaluation.results.benchmark_result import BenchmarkResult

SIZES = ("124M", "355M", "774M", "1.5B")
"""Sizes of OpenAI's GPT-2, in parameters."""
_TABLE = Path(__file__).with_suffix(".csv")


@dataclass(frozen=True)
class Published:
    """A metric of OpenAI's GPT-2 by size."""

    values: Mapping[str, float]
    """Values by size, where one was published; shares in percent."""
    settings: Mapping[str, Any]
    """Settings of the benchmark with which it is comparable."""
    definition: str
    """How the definition differs; `the same definition` where it does not."""
    source: str


def published(result: BenchmarkResult, metric: str) -> Published | None:
    """Return what was published for a metric of a benchmark with these settings; None if nothing comparable was."""
    known = _table().get((result.name, metric))
    if known is None or any(result.settings.get(key) != value for key, value in known.settings.items()):
        return None
    return known


@functools.cache
def _table() -> Mapping[tuple[str, str], Published]:
    with _TABLE.open(encoding="utf-8", newline="") as file:
        return {
            (row["benchmark"], row["metric"]): Published(
                {size: float(row[size]) for size in SIZES if row[size]},
                json.loads(row["settings"]),
                row["definition"],
                row["source"],
            )
            for row in csv.DictReader(file)
        }
