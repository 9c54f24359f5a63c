"""A classifier's answers to texts."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt2_lightning.data.classification.batches import LabelKind
from gpt2_lightning.data.classification.encoded_texts import EncodedTexts
from gpt2_lightning.model.classifier import Classifier

THRESHOLD = 0.5
"""Where texts may have several classes, one applies if its probability is above this."""


def probabilities(logits: Tensor, kind: LabelKind) -> Tensor:
    """What scores (B, L) say, in float32: of one class, probabilities that sum to 1; of several, one for each; for
    regression the number itself, (B,)."""
    if kind == "regression":
        return logits.squeeze(1).float()
    return logits.float().softmax(dim=1) if kind == "single" else logits.float().sigmoid()


@torch.inference_mode()
def predict(classifier: Classifier, texts: EncodedTexts, kind: LabelKind, batch_size: int) -> NDArray[np.float32]:
    """The probabilities of texts, in their order. Dropout is off; the classifier is left in the mode it was in.

    Args:
        classifier: on any device.
        texts: at least one.
        kind: what a label is.
        batch_size: texts in one forward pass; similar lengths go together.

    Returns:
        (N, L), or (N,) for regression; see `probabilities`.
    """
    was_training, device = classifier.training, classifier.score.weight.device
    batches = texts.by_length(batch_size)
    classifier.eval()
    try:
        outputs = [_outputs(classifier, *texts.batch(rows), kind, device) for rows in batches]
    finally:
        classifier.train(was_training)
    found = np.concatenate(outputs)
    ordered = np.empty_like(found)
    ordered[np.concatenate(batches)] = found
    return ordered


def _outputs(
    classifier: Classifier, ids: Tensor, mask: Tensor, kind: LabelKind, device: torch.device
) -> NDArray[np.float32]:
    found: NDArray[np.float32] = probabilities(classifier(ids.to(device), mask.to(device)), kind).cpu().numpy()
    return found
