"""Scores of predictions whose true labels are in the same table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning.app.config.overrides import command
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.data.tables.labeled_texts import unknown_labels
from gpt2_lightning.label_kinds import LabeledText


def print_scores(
    texts: Sequence[str],
    cells: Sequence[Any],
    outputs: NDArray[np.float32],
    task: LabelTask,
    separator: str | None,
    column: str,
) -> None:
    """Print the headline metrics over the rows that have a label on standard error, or why there are none.

    Args:
        texts: N texts.
        cells: cell of the label of each text, None for a row without one.
        outputs: outputs of the classifier for the texts.
        task: labels of the classifier.
        separator: separator of several classes in one cell.
        column: name of the column, for messages.
    """
    labeled = [i for i, cell in enumerate(cells) if cell is not None and (separator or str(cell).strip())]
    if not labeled:
        return
    try:
        rows = [LabeledText(texts[i], task.kind.parse(cells[i], (), separator)) for i in labeled]
    except ValueError as reason:
        why = str(reason).replace("data.separator", "separator")
        print(f"no scores: a cell of the column '{column}' {why}", file=sys.stderr)
        return
    if unknown := unknown_labels(rows, task.labels):
        print(
            f"no scores: the column '{column}' has labels that this classifier does not know: {unknown}; it answers "
            f"with {task.kind.describe(task.labels)}",
            file=sys.stderr,
        )
        return
    report = task.kind.report(rows, outputs[labeled], task.labels)
    print(f"scores of the {len(rows):,} labeled texts, with 95 % intervals:", file=sys.stderr)
    for name, estimate in report.headline.items():
        print(f"  {report.names[name]:24} {estimate}", file=sys.stderr)
    more = command("evaluate", "benchmarks=[labels]", "benchmarks.labels.path=…")
    print(f"for more, and a linear baseline: {more}", file=sys.stderr)
