"""Labels: the predictions of a classifier on labeled texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gpt2_lightning.checkpoints.label_task import KIND, LabelTask
from gpt2_lightning.data.classification.encoded_texts import EncodedTexts
from gpt2_lightning.data.tables import LabeledTexts
from gpt2_lightning.data.tables.labeled_texts import unknown_labels
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation import linear_baseline
from gpt2_lightning.evaluation.benchmarks.benchmark import Item, ItemRecord, Items, Subject, evenly_spaced
from gpt2_lightning.evaluation.benchmarks.fine_tuning_benchmark import FineTuningBenchmark, fine_tuning_data
from gpt2_lightning.evaluation.predictions import batch_outputs, report_of
from gpt2_lightning.evaluation.results.comparison import Option, ShownItem
from gpt2_lightning.evaluation.results.intervals import function_of_sums, share
from gpt2_lightning.evaluation.results.metric import Metric
from gpt2_lightning.label_kinds import Label, LabeledText
from gpt2_lightning.label_kinds.reports.report import Report

LINEAR = "linear_"
"""Beginning of the names of the linear baseline's metrics."""


@dataclass(frozen=True)
class _Content:
    row: LabeledText
    linear: NDArray[np.float32] | None
    """Output of the linear baseline."""


@dataclass(frozen=True, kw_only=True)
class Labels(FineTuningBenchmark):
    """Accuracy or error of a classifier on labeled texts, and beside it that of a linear baseline.

    The baseline is fitted to the rows that the classifier was trained on, see `linear_baseline`.

    Raises:
        ValueError: with every invalid setting, one line each, as "field: what is wrong".
    """

    name = "labels"
    text_column: str = "text"
    label_column: str = "label"
    separator: str | None = None
    """Separator between the classes of a text, if a cell contains them as one string."""
    baseline: bool = True
    """Whether to fit the linear baseline, which takes seconds to minutes."""

    def items(self, subject: Subject, data_dir: Path | None) -> Items:
        task = _task_of(subject)
        source, rows = self.read(
            subject,
            LabeledTexts,
            text_column=self.text_column,
            label_column=self.label_column,
            separator=self.separator,
            kind=task.label_kind,
        )
        if unknown := unknown_labels(rows, task.labels):
            raise UserError(
                f"benchmarks.labels.path: {source} has labels that the classifier does not know: {unknown}; it answers "
                f"with {task.kind.describe(task.labels)}"
            )
        chosen = evenly_spaced(list(enumerate(rows, 1)), self.limit)
        rows = [row for _, row in chosen]
        _encoded(rows, subject, task)  # a text that cannot be encoded is an error before the first is measured
        linear, notes = self._baseline(subject, task, rows)
        if note := subject.tokenizer.take_note():
            notes += (note,)
        items = [
            Item(str(number), _Content(row, None if linear is None else linear[place]))
            for place, (number, row) in enumerate(chosen)
        ]
        plain = json.dumps([[number, row.text, row.label] for number, row in chosen])
        return Items(items, source, hashlib.sha256(plain.encode()).hexdigest(), notes)

    def records(self, subject: Subject, items: Sequence[Item]) -> Iterator[ItemRecord]:
        assert subject.classifier is not None, "checked where the items are read"
        task = _task_of(subject)
        texts = _encoded([item.content.row for item in items], subject, task)
        for rows in texts.by_tokens(subject.tokens_per_batch):
            outputs = batch_outputs(subject.classifier, texts, task.kind, rows)
            for place, output in zip(rows.tolist(), outputs, strict=True):
                if not np.isfinite(output).all():
                    raise UserError(f"labels: the outputs for row {items[place].id} are NaN or infinite")
                yield {**_record(items[place], output, task), "cut": int(texts.left_out[place])}

    def metrics(self, records: Sequence[ItemRecord]) -> list[Metric]:
        report = _report(records)
        return [*_metrics(report, ""), *(_metrics(report.linear, LINEAR) if report.linear else [])]

    def shown(self, record: ItemRecord, metric: str) -> ShownItem:
        right, chosen = (
            value if isinstance(value, list) else [value] for value in (record["label"], record["prediction"])
        )
        probabilities = record.get("probabilities", {})
        options = (Option(name, value, name in right, name in chosen) for name, value in probabilities.items())
        return ShownItem(record["text"], tuple(options))

    def write_report(self, records: Sequence[ItemRecord], folder: Path) -> list[Path]:
        return [_report(records).write(f"{len(records):,} labeled texts", folder)]

    def _baseline(
        self, subject: Subject, task: LabelTask, rows: Sequence[LabeledText]
    ) -> tuple[NDArray[np.float32] | None, tuple[str, ...]]:
        """Return the outputs of the linear baseline, or None and the reason."""
        if not self.baseline:
            return None, ()
        if not linear_baseline.available():
            return None, (f"no linear baseline: pip install 'gpt2-lightning[{linear_baseline.EXTRA}]'",)
        try:
            splits = fine_tuning_data(subject, LabeledTexts)
            texts = [row.text for row in rows]
            return linear_baseline.linear_outputs(task.kind, task.labels, splits.train, splits.val, texts), ()
        except UserError as error:
            return None, (f"no linear baseline: {error}",)


def _task_of(subject: Subject) -> LabelTask:
    if subject.classifier is None or subject.task.get("kind") != KIND:
        raise UserError(
            f"benchmarks.labels: {subject.location} is a language model without a classifier's head; fine-tune it with "
            "task=classify"
        )
    return LabelTask.from_plain(dict(subject.task))


def _encoded(rows: Sequence[LabeledText], subject: Subject, task: LabelTask) -> EncodedTexts:
    return EncodedTexts([row.text for row in rows], subject.tokenizer, task.truncation, task.add_prefix_space)


def _record(item: Item, output: NDArray[np.float32], task: LabelTask) -> ItemRecord:
    kind, row, linear = task.kind, item.content.row, item.content.linear
    target = kind.targets([row], task.labels)
    predicted, probabilities = kind.prediction(output.tolist(), task.labels)
    return {
        "id": item.id,
        "kind": kind.name,
        kind.headline: float(kind.batch_metric(torch.from_numpy(output[None]), target)),
        "text": row.text,
        "label": _plain(row.label),
        "prediction": _plain(predicted),
        **({"probabilities": probabilities} if task.labels else {}),
        **({} if linear is None else {"linear": linear.tolist()}),
    }


def _plain(label: Label) -> str | list[str] | float:
    """Return a label as JSON has it."""
    return list(label) if isinstance(label, tuple) else label


def _metrics(report: Report, prefix: str) -> list[Metric]:
    """Return the metrics of a report; those that are undefined are left out."""
    found = []
    for name, statistic in report.statistics.items():
        if name in report.shares and name == next(iter(report.names)):
            found.append(share(f"{prefix}{name}", report.columns[:, 0]))
        else:
            lower, part = name in report.errors, name in report.shares
            found.append(function_of_sums(f"{prefix}{name}", report.columns, statistic, not lower, part))
    for name, value in report.further.items():
        found.append(Metric(f"{prefix}{name}", value, higher_is_better=name not in report.errors))
    return [metric for metric in found if isfinite(metric.value)]


def _report(records: Sequence[ItemRecord]) -> Report:
    """Return the report of records."""
    kind, labels = records[0]["kind"], tuple(records[0].get("probabilities", ()))
    rows = [
        LabeledText(record["text"], tuple(label) if isinstance(label := record["label"], list) else label)
        for record in records
    ]
    outputs = [list(record["probabilities"].values()) if labels else record["prediction"] for record in records]
    linear = [record["linear"] for record in records if "linear" in record]
    return report_of(
        rows,
        np.array(outputs, np.float32),
        LabelTask(labels, kind, "last", 1),
        np.array(linear, np.float32) if len(linear) == len(records) else None,
    )
