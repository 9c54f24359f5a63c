"""Published results of OpenAI's GPT-2, from `published.csv`."""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SIZES = ("124M", "355M", "774M", "1.5B")
"""Sizes of OpenAI's GPT-2, in parameters."""
_TABLE = Path(__file__).with_suffix(".csv")


@dataclass(frozen=True)
class Published:
    """A metric of OpenAI's GPT-2 by size."""

    values: Mapping[str, float]
    """Values by size, where one was published; shares in percent."""
    definition: str
    """How the definition differs from that of this project's benchmark; `as here` where it does not."""
    source: str


def published(benchmark: str, metric: str) -> Published | None:
    """Return what was published for a metric of a benchmark; None if nothing comparable was."""
    return _table().get((benchmark, metric))


@functools.cache
def _table() -> Mapping[tuple[str, str], Published]:
    with _TABLE.open(encoding="utf-8", newline="") as file:
        return {
            (row["benchmark"], row["metric"]): Published(
                {size: float(row[size]) for size in SIZES if row[size]}, row["definition"], row["source"]
            )
            for row in csv.DictReader(file)
        }
