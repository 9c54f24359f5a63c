"""Predictions of a classifier."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.data.classification.encoded_texts import EncodedTexts
from gpt2_lightning.label_kinds import Label, LabeledText, LabelKind
from gpt2_lightning.label_kinds.reports.report import Report
from gpt2_lightning.model.classifier import Classifier


@dataclass(frozen=True)
class Prediction:
    """Prediction for a text."""

    text: str
    label: Label
    """The class, the list of classes that apply, or a number, by label kind."""
    probabilities: dict[str, float]
    """Probabilities by class; empty for a label kind without classes."""


def predictions_of(texts: Sequence[str], outputs: NDArray[np.float32], task: LabelTask) -> list[Prediction]:
    """Convert the outputs of a classifier, see `predict`, to predictions."""
    return [
        Prediction(text, *task.kind.prediction(output, task.labels))
        for text, output in zip(texts, outputs.tolist(), strict=True)
    ]


def report_of(
    rows: Sequence[LabeledText], outputs: NDArray[np.float32], task: LabelTask, linear: NDArray[np.float32] | None
) -> Report:
    """Evaluate the outputs of a classifier, see `predict`, and beside them those of a linear baseline, if any."""
    found = task.kind.report(rows, outputs, task.labels)
    if linear is None:
        return found
    return dataclasses.replace(found, linear=task.kind.report(rows, linear, task.labels))


def predict(classifier: Classifier, texts: EncodedTexts, kind: LabelKind, batch_size: int) -> NDArray[np.float32]:
    """Compute the outputs of a classifier in evaluation mode; its mode is restored afterwards.

    Args:
        classifier: classifier on any device.
        texts: at least one text.
        kind: label kind of the classifier.
        batch_size: texts per forward pass; texts of similar length are batched together.

    Returns:
        Probabilities (N, L), or numbers (N,), in the order of the texts; see `LabelKind.outputs`.
    """
    was_training, batches = classifier.training, texts.by_length(batch_size)
    classifier.eval()
    try:
        found = np.concatenate([batch_outputs(classifier, texts, kind, rows) for rows in batches])
    finally:
        classifier.train(was_training)
    ordered = np.empty_like(found)
    ordered[np.concatenate(batches)] = found
    return ordered


@torch.inference_mode()
def batch_outputs(
    classifier: Classifier, texts: EncodedTexts, kind: LabelKind, rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Compute the outputs of the texts of the given numbers in one forward pass, in the classifier's mode."""
    ids, mask = (tensor.to(classifier.score.weight.device) for tensor in texts.batch(rows))
    outputs: NDArray[np.float32] = kind.outputs(classifier(ids, mask)).cpu().numpy()
    return outputs
