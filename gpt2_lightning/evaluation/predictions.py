"""Predictions of a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.data.classification.encoded_texts import EncodedTexts
from gpt2_lightning.label_kinds import Label, LabelKind
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


@torch.inference_mode()
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
    was_training, device = classifier.training, classifier.score.weight.device
    batches, outputs = texts.by_length(batch_size), []
    classifier.eval()
    try:
        for rows in batches:
            ids, mask = (tensor.to(device) for tensor in texts.batch(rows))
            outputs.append(kind.outputs(classifier(ids, mask)).cpu().numpy())
    finally:
        classifier.train(was_training)
    found = np.concatenate(outputs)
    ordered = np.empty_like(found)
    ordered[np.concatenate(batches)] = found
    return ordered
