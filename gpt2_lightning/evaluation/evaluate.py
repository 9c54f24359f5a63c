"""Evaluation of a model on benchmarks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gpt2_lightning.atomic import write_text
from gpt2_lightning.checkpoints.content import weights_hash
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.benchmarks.benchmark import Benchmark, ItemRecord, Items, Subject
from gpt2_lightning.evaluation.results import markdown, plot, results_file
from gpt2_lightning.evaluation.results.benchmark_result import BenchmarkResult
from gpt2_lightning.evaluation.results.item_log import Header, open_log, partial_path, read_log
from gpt2_lightning.evaluation.results.plot import draw_results
from gpt2_lightning.evaluation.results.results_file import EvaluatedModel, add_results
from gpt2_lightning.huggingface.weights import dtype_name
from gpt2_lightning.model.inference.packed import packed
from gpt2_lightning.model.inference.quantized import is_quantized
from gpt2_lightning.model.size import count_parameters

ITEMS_FOLDER = "items"
"""Folder of the records of items, in that of the results."""
ITEMS_PER_CHUNK = 128
"""Items that are measured together, and recorded together.

The batches of a chunk depend on its items alone, so that an evaluation that is continued rounds as one that was not
interrupted.
"""
Watch = Callable[[str, int, int], Callable[[], None]]
"""Called with the name of a benchmark, the number of items that were measured before, and that of all items; returns a
function that is called for each further item."""


def evaluate(
    benchmarks: Mapping[str, Benchmark],
    subject: Subject,
    data_dir: Path | None = None,
    output: Path | None = None,
    overwrite: bool = False,
    watch: Watch = lambda name, done, total: lambda: None,
) -> Iterator[BenchmarkResult]:
    """Measure a model on benchmarks.

    The items of all benchmarks are read before the first is measured. With an output folder, an evaluation that was
    interrupted continues, and what is complete there is not measured again.

    Args:
        benchmarks: benchmarks by name.
        subject: the model.
        data_dir: see `Benchmark.items`.
        output: folder of the results: `results.json` with a page and a plot, the records of the items, and reports of
            benchmarks; None to write nothing.
        overwrite: whether to measure again what is in the output folder.
        watch: see `Watch`.

    Yields:
        The results, each as soon as it is known.

    Raises:
        UserError: see `items_of` and `item_log.open_log`; also if logits are NaN, or if the output folder has results
            with other settings and `overwrite` is not set.
    """
    items = items_of(benchmarks, subject, data_dir)
    if output is None:
        for name, benchmark in benchmarks.items():
            yield measure(name, benchmark, subject, items[name], watch(name, 0, len(items[name].items)))
        return
    model = _evaluated_model(subject)
    paths = {name: items_file(output, name) for name in benchmarks}
    headers = {name: _header(name, benchmarks[name], subject, model, items[name]) for name in benchmarks}
    for name, path in paths.items():
        if overwrite:
            path.unlink(missing_ok=True)
            partial_path(path).unlink(missing_ok=True)
        else:
            _require_same(path, headers[name])
    for name, benchmark in benchmarks.items():
        with open_log(paths[name], headers[name], len(items[name].items)) as log:
            done = len(log.records)
            advance = watch(name, done, len(items[name].items))
            for chunk in _chunks(benchmark, subject, items[name], done, advance):
                log.append(chunk)
            records = log.finish()
        result = _result(name, benchmark, items[name], records)
        _write_report(benchmark, records, output / name)
        results = add_results(output / results_file.FILE, model, {name: result})
        write_text(output / markdown.FILE, markdown.results_page(results))
        draw_results(results, output / plot.FILE)
        yield result


def items_file(folder: Path, name: str) -> Path:
    """Path of the records of a benchmark's items in a folder of results."""
    return folder / ITEMS_FOLDER / f"{name}.jsonl"


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
            faults.append(str(error) if str(error).startswith(f"benchmarks.{name}") else f"{name}: {error}")
    if faults:
        raise UserError("\n  ".join(faults))
    return found


def measure(
    name: str, benchmark: Benchmark, subject: Subject, items: Items, advance: Callable[[], None] = lambda: None
) -> BenchmarkResult:
    """Measure a model on items that have been read, without writing anything.

    Args:
        name: name of the benchmark.
        benchmark: the benchmark.
        subject: the model.
        items: the items; see `items_of`.
        advance: called for each item that has been measured.

    Raises:
        UserError: if logits are NaN.
    """
    records = [record for chunk in _chunks(benchmark, subject, items, 0, advance) for record in chunk]
    return _result(name, benchmark, items, records)


def _chunks(
    benchmark: Benchmark, subject: Subject, items: Items, done: int, advance: Callable[[], None]
) -> Iterator[list[ItemRecord]]:
    """Measure items by chunks.

    Args:
        benchmark: the benchmark.
        subject: the model.
        items: its items.
        done: number of items to skip, those of whole chunks.
        advance: called for each item that has been measured.

    Yields:
        The records of a chunk, in the order of its items.
    """
    size = ITEMS_PER_CHUNK * (1 + len(subject.devices))
    with packed(subject.model):  # once for all chunks
        for start in range(done, len(items.items), size):
            chunk = items.items[start : start + size]
            records = {}
            for record in benchmark.records(subject, chunk):
                records[record["id"]] = record
                advance()
            yield [records[item.id] for item in chunk]


def _result(name: str, benchmark: Benchmark, items: Items, records: list[ItemRecord]) -> BenchmarkResult:
    metrics = tuple(benchmark.metrics(records))
    n_cut = sum(bool(record.get("cut")) for record in records)
    settings = settings_of(benchmark)
    return BenchmarkResult(name, metrics, len(records), items.source, items.digest, settings, items.notes, n_cut)


def settings_of(benchmark: Benchmark) -> Mapping[str, Any]:
    """Return the settings of a benchmark as plain values, with the name of its class."""
    assert dataclasses.is_dataclass(benchmark), "benchmarks are dataclasses"
    return {"benchmark": type(benchmark).__name__, **dataclasses.asdict(benchmark)}


def _evaluated_model(subject: Subject) -> EvaluatedModel:
    head = subject.classifier
    return EvaluatedModel(
        location=subject.location,
        step=subject.step,
        weights=weights_hash(head or subject.model, "sha256"),
        parameters=count_parameters(subject.model.config) + (0 if head is None else head.score.weight.numel()),
        tokenizer=subject.tokenizer.hash(),
        block_size=subject.model.config.block_size,
    )


def _header(name: str, benchmark: Benchmark, subject: Subject, model: EvaluatedModel, items: Items) -> Header:
    dtype = "int8" if is_quantized(subject.model) else dtype_name(subject.model.wte.weight.dtype)
    return Header(name, settings_of(benchmark), items.digest, model.weights, model.tokenizer, dtype)


def _require_same(path: Path, header: Header) -> None:
    """Check that finished records are those of an evaluation with the same settings.

    Raises:
        UserError: if they are not, naming the differences.
    """
    differences = read_log(path)[0].differences(header) if path.is_file() else []
    if differences:
        what = f"{path} has results that differ; name another folder with output, or add overwrite=true to replace them"
        raise UserError("\n  ".join([what, *differences]))


def _write_report(benchmark: Benchmark, records: list[ItemRecord], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not benchmark.write_report(records, folder) and not any(folder.iterdir()):
        folder.rmdir()
