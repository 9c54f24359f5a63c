"""Predictions of a classifier on the terminal, as JSONL and as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from typing import TextIO

from gpt2_lightning.evaluation.predictions import Prediction

FORMATS = (".jsonl", ".csv")


def write_predictions(predictions: Sequence[Prediction], labels: Sequence[str], suffix: str, file: TextIO) -> None:
    """Write a row for each prediction.

    JSONL has the text, the label and the probabilities by class. CSV has a column `p(CLASS)` for each class, and
    several labels as a JSON list.

    Args:
        predictions: in the order of the texts.
        labels: the classes in their order.
        suffix: one of `FORMATS`.
        file: open for text, without translation of line ends.
    """
    if suffix == ".jsonl":
        for prediction in predictions:
            row = {"text": prediction.text, "label": prediction.label}
            more = {"probabilities": prediction.probabilities} if labels else {}
            file.write(json.dumps({**row, **more}, ensure_ascii=False) + "\n")
        return
    table = csv.writer(file)
    table.writerow(["text", "label", *(f"p({name})" for name in labels)])
    for prediction in predictions:
        several = isinstance(prediction.label, tuple)
        label = json.dumps(prediction.label, ensure_ascii=False) if several else prediction.label
        table.writerow([prediction.text, label, *prediction.probabilities.values()])


def named(prediction: Prediction) -> str:
    """Format the predicted class, classes, or number."""
    return (", ".join(prediction.label) or "none") if isinstance(prediction.label, tuple) else str(prediction.label)


def print_prediction(prediction: Prediction) -> None:
    """Print the label and the probabilities, in descending order."""
    print(named(prediction))
    width = max(map(len, prediction.probabilities), default=0)
    for name, probability in sorted(prediction.probabilities.items(), key=lambda pair: -pair[1]):
        print(f"  {name:{width}}  {probability:.4f}")
