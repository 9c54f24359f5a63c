"""Evaluation of a model on benchmarks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.benchmarks.benchmark import Benchmark, ItemRecord, Items, Subject
from gpt2_lightning.evaluation.results.benchmark_result import BenchmarkResult

ITEMS_PER_CHUNK = 128
"""Items that are measured together, and recorded together.

The batches of a chunk depend on its items alone, so that an evaluation that is continued rounds as one that was not
interrupted.
"""
Watch = Callable[[str, int, int], Callable[[], None]]
"""Called with the name of a benchmark, the number of items that were measured before, and that of all items; returns a
function that is called for each further item."""


def evaluate(
    benchmarks: Mapping[str, Benchmark], subject: Subject, data_dir: Path | None = None, watch: Watch | None = None
) -> dict[str, BenchmarkResult]:
    """Measure a model on benchmarks.

    The items of all benchmarks are read before the first is measured.

    Args:
        benchmarks: benchmarks by name.
        subject: the model.
        data_dir: see `Benchmark.items`.
        watch: see `Watch`.

    Raises:
        UserError: see `items_of`; also if logits are NaN.
    """
    results = {}
    for name, items in items_of(benchmarks, subject, data_dir).items():
        advance = (lambda: None) if watch is None else watch(name, 0, len(items.items))
        records = [record for chunk in measure(benchmarks[name], subject, items, 0, advance) for record in chunk]
        results[name] = result_of(name, benchmarks[name], items, records)
    return results


def items_of(benchmarks: Mapping[str, Benchmark], subject: Subject, data_dir: Path | None) -> dict[str, Items]:
    """Read the items of benchmarks.

    Raises:
        UserError: if the data of any is absent or invalid, or one does not apply to the model; all are named.
    """
    found, faults = {}, []
    for name, benchmark in benchmarks.items():
        try:
            found[name] = benchmark.items(subject, data_dir)
        except UserError as error:
            faults.append(f"{name}: {error}")
    if faults:
        raise UserError("\n  ".join(faults))
    return found


def measure(
    benchmark: Benchmark, subject: Subject, items: Items, done: int, advance: Callable[[], None]
) -> Iterator[list[ItemRecord]]:
    """Measure the items of a benchmark by chunks.

    Args:
        benchmark: the benchmark.
        subject: the model.
        items: its items.
        done: number of items to skip, those of whole chunks.
        advance: called for each item that has been measured.

    Yields:
        The records of a chunk, in the order of its items.
    """
    for start in range(done, len(items.items), ITEMS_PER_CHUNK):
        chunk = items.items[start : start + ITEMS_PER_CHUNK]
        records = {}
        for record in benchmark.records(subject, chunk):
            records[record["id"]] = record
            advance()
        yield [records[item.id] for item in chunk]


def result_of(name: str, benchmark: Benchmark, items: Items, records: list[ItemRecord]) -> BenchmarkResult:
    """Compute the result of a benchmark from the records of all items, in their order."""
    metrics = tuple(benchmark.metrics(records))
    settings = settings_of(benchmark)
    return BenchmarkResult(name, metrics, len(records), items.source, items.digest, settings, items.notes)


def settings_of(benchmark: Benchmark) -> Mapping[str, Any]:
    """Return the settings of a benchmark as plain values, with the name of its class."""
    assert dataclasses.is_dataclass(benchmark), "benchmarks are dataclasses"
    return {"benchmark": type(benchmark).__name__, **dataclasses.asdict(benchmark)}
