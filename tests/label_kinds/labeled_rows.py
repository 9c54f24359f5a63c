"""Rows of a classifier's test set, with its outputs."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from gpt2_lightning.data.tables import LabeledText
from gpt2_lightning.label_kinds.multi import Multi
from gpt2_lightning.label_kinds.regression import Regression
from gpt2_lightning.label_kinds.reports.classes import ClassificationReport
from gpt2_lightning.label_kinds.single import Single

LABELS = ("ham", "spam", "eggs")

SINGLE = Single()

MULTI = Multi()

REGRESSION = Regression()


def answers(count: int, seed: int = 0) -> tuple[list[LabeledText], NDArray[np.float32], torch.Tensor]:
    """Rows of three classes, and probabilities that are often right."""
    dice = np.random.default_rng(seed)
    true = dice.choice(3, count, p=[0.6, 0.3, 0.1])
    logits = dice.normal(size=(count, 3))
    logits[np.arange(count), true] += 1
    outputs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = [LabeledText(f"row {i}", LABELS[number]) for i, number in enumerate(true)]
    return rows, outputs.astype(np.float32), torch.from_numpy(true)


def several(count: int) -> tuple[list[LabeledText], NDArray[np.float32], torch.Tensor]:
    dice = np.random.default_rng(0)
    true = dice.random((count, 3)) < [0.5, 0.2, 0.1]
    outputs = 1 / (1 + np.exp(-dice.normal(size=(count, 3)) - 3 * true + 1.5))
    rows = [LabeledText("t", tuple(np.array(LABELS)[row].tolist())) for row in true]
    return rows, outputs.astype(np.float32), torch.from_numpy(true).long()


def by_hand() -> ClassificationReport:
    """Four rows: ham as ham with 0.8, ham as spam with 0.9, spam as spam with 0.6, ham as ham with 0.7."""
    rows = [LabeledText(text, label) for text, label in (("a", "ham"), ("b", "ham"), ("c", "spam"), ("d", "ham"))]
    outputs = np.array([[0.8, 0.2], [0.1, 0.9], [0.4, 0.6], [0.7, 0.3]], dtype=np.float32)
    return SINGLE.report(rows, outputs, ["ham", "spam"])
