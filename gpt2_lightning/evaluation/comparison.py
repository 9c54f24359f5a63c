"""Comparison of two models from the files of their evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gpt2_lightning.errors import UserError, listed
from gpt2_lightning.evaluation.benchmarks.benchmark import Benchmark, ItemRecord
from gpt2_lightning.evaluation.evaluate import items_file
from gpt2_lightning.evaluation.results.comparison import ChangedItem, Comparison
from gpt2_lightning.evaluation.results.item_log import read_log
from gpt2_lightning.evaluation.results.paired import Difference, differences, require_same_items


def compare(benchmarks: Mapping[str, Benchmark], folder: Path, other_folder: Path) -> list[Comparison]:
    """Compare two models, item by item.

    Models with different tokenizers are compared by metrics that do not depend on the number of tokens.

    Args:
        benchmarks: benchmarks by name, with the settings of both evaluations.
        folder: results of this model.
        other_folder: results of the other model.

    Raises:
        UserError: if a model was not measured on a benchmark, if items, data or settings differ, or if no metric of a
            benchmark is comparable.
    """
    return [
        _compare(name, benchmark, items_file(folder, name), items_file(other_folder, name))
        for name, benchmark in benchmarks.items()
    ]


def _compare(name: str, benchmark: Benchmark, file: Path, other_file: Path) -> Comparison:
    (header, records), (other_header, other_records) = read_log(file), read_log(other_file)
    require_same_items(header, records, other_header, other_records)
    found, not_comparable = differences(benchmark.metrics(records), benchmark.metrics(other_records))
    if not found:
        raise UserError(
            f"{name}: {listed(not_comparable)} are not comparable, since the models divide the data into other tokens "
            f"or passages: {len(other_records):,} records there, {len(records):,} now; the tokenizers have SHA-256 "
            f"{other_header.tokenizer[:16]} there, {header.tokenizer[:16]} now"
        )
    by = next((difference for difference in found if difference.contingency is not None), None)
    changed = () if by is None else tuple(_changed(benchmark, by, records, other_records))
    return Comparison(name, len(records), tuple(found), tuple(not_comparable), None if by is None else by.name, changed)


def _changed(
    benchmark: Benchmark, by: Difference, records: Sequence[ItemRecord], others: Sequence[ItemRecord]
) -> list[ChangedItem]:
    """Return the items of which a metric, 0 or 1 for each, differs."""
    assert by.this.sample is not None, "metrics with a contingency have values by item"
    assert by.other.sample is not None, "likewise"
    found = []
    values = zip(by.this.sample.columns[:, 0], by.other.sample.columns[:, 0], strict=True)
    for record, other, (this_value, other_value) in zip(records, others, values, strict=True):
        if this_value != other_value:
            shown, other_shown = (benchmark.shown(one, by.name) for one in (record, other))
            if shown is not None and other_shown is not None:
                found.append(ChangedItem(record["id"], shown, other_shown, bool(this_value)))
    return found
