"""A classifier's answers as a person or a program reads them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.label_kinds import Label

FORMATS = (".jsonl", ".csv")


@dataclass(frozen=True)
class Answer:
    """What a classifier says of a text."""

    text: str
    label: Label
    """The class, the classes that apply, or a number."""
    probabilities: dict[str, float]
    """By class; empty for a kind without classes."""


def answers_of(texts: Sequence[str], outputs: NDArray[np.float32], task: LabelTask) -> list[Answer]:
    """The answers in a classifier's outputs, see `predictions.predict`."""
    return [
        Answer(text, *task.kind.prediction(output, task.labels))
        for text, output in zip(texts, outputs.tolist(), strict=True)
    ]


def write_answers(answers: Sequence[Answer], labels: Sequence[str], suffix: str, file: TextIO) -> None:
    """Write a row for each answer.

    JSONL has the text, the label and the probabilities by class. CSV has a column `p(CLASS)` for each class, and
    several labels as a JSON list.

    Args:
        answers: in the order of the texts.
        labels: the classes in their order.
        suffix: one of `FORMATS`.
        file: open for text, without translation of line ends.
    """
    if suffix == ".jsonl":
        for answer in answers:
            row = {"text": answer.text, "label": answer.label}
            more = {"probabilities": answer.probabilities} if labels else {}
            file.write(json.dumps({**row, **more}, ensure_ascii=False) + "\n")
        return
    table = csv.writer(file)
    table.writerow(["text", "label", *(f"p({name})" for name in labels)])
    for answer in answers:
        label = json.dumps(answer.label, ensure_ascii=False) if isinstance(answer.label, tuple) else answer.label
        table.writerow([answer.text, label, *answer.probabilities.values()])


def named(answer: Answer) -> str:
    """The class, the classes that apply, or the number."""
    return (", ".join(answer.label) or "none") if isinstance(answer.label, tuple) else str(answer.label)


def print_answer(answer: Answer) -> None:
    """Print the label, and the probabilities, the largest first."""
    print(named(answer))
    width = max(map(len, answer.probabilities), default=0)
    for name, probability in sorted(answer.probabilities.items(), key=lambda pair: -pair[1]):
        print(f"  {name:{width}}  {probability:.4f}")
