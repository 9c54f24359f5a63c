"""Evaluation of a model on benchmarks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gpt2_lightning.evaluation.benchmarks.benchmark import Benchmark, ItemRecord, Items, Subject
from gpt2_lightning.evaluation.results.benchmark_result import BenchmarkResult

ITEMS_PER_CHUNK = 128
"""Items that are measured together, and recorded together.

The batches of a chunk depend on its items alone, so that an evaluation that is continued rounds as one that was not
interrupted.
"""


def evaluate(
    name: str,
    benchmark: Benchmark,
    subject: Subject,
    items: Items | None = None,
    data_dir: Path | None = None,
    on_item: Callable[[], None] = lambda: None,
) -> BenchmarkResult:
    """Measure a model on a benchmark.

    Args:
        name: name of the benchmark.
        benchmark: the benchmark.
        subject: the model.
        items: its items, if they have been read already.
        data_dir: see `Benchmark.items`.
        on_item: called for each item that has been measured.

    Raises:
        UserError: if the data is absent or invalid, the benchmark does not apply to the model, or logits are NaN.
    """
    found = benchmark.items(subject, data_dir) if items is None else items
    records: list[ItemRecord] = []
    for chunk in measure(benchmark, subject, found, len(records), on_item):
        records += chunk
    return result_of(name, benchmark, found, records)


def measure(
    benchmark: Benchmark, subject: Subject, items: Items, done: int, on_item: Callable[[], None]
) -> Iterator[list[ItemRecord]]:
    """Measure the items of a benchmark by chunks.

    Args:
        benchmark: the benchmark.
        subject: the model.
        items: its items.
        done: number of items to skip, those of whole chunks.
        on_item: called for each item that has been measured.

    Yields:
        The records of a chunk, in the order of its items.
    """
    for start in range(done, len(items.items), ITEMS_PER_CHUNK):
        chunk = items.items[start : start + ITEMS_PER_CHUNK]
        records = {}
        for record in benchmark.records(subject, chunk):
            records[record["id"]] = record
            on_item()
        yield [records[item.id] for item in chunk]


def result_of(name: str, benchmark: Benchmark, items: Items, records: list[ItemRecord]) -> BenchmarkResult:
    """Compute the result of a benchmark from the records of all items, in their order."""
    metrics = tuple(benchmark.metrics(records))
    return BenchmarkResult(name, metrics, len(records), items.source, items.digest, settings_of(benchmark), items.notes)


def settings_of(benchmark: Benchmark) -> Mapping[str, Any]:
    """Return the settings of a benchmark as plain values, with the name of its class."""
    assert dataclasses.is_dataclass(benchmark), "benchmarks are dataclasses"
    return {"benchmark": type(benchmark).__name__, **dataclasses.asdict(benchmark)}
