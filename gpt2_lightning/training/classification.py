"""The LightningModule of classification: what happens to a batch of labeled texts."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanAbsoluteError, MetricCollection
from torchmetrics.classification import (
    BinaryAccuracy,
    BinaryF1Score,
    MulticlassAccuracy,
    MulticlassF1Score,
    MultilabelExactMatch,
    MultilabelF1Score,
)

from gpt2_lightning.checkpoints.content import SCORE, Description
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.data.classification.batches import LabelBatch, LabelKind
from gpt2_lightning.data.classification.datamodule import LabelDataModule
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.classification.predictions import THRESHOLD, probabilities
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.training.lightning_module import TrainingTask, of_all_processes, of_this_process
from gpt2_lightning.training.optimizers.adamw import OptimizerSpec
from gpt2_lightning.training.schedules import Schedule

ClassWeights = Literal["none", "balanced"] | list[float]
"""How much each class counts in the loss: alike, in inverse proportion to its rows, or as stated."""
_TRANSFORMER = "transformer."
_TRAIN_SCORES = "train_scores"
HEADLINES: dict[LabelKind, str] = {"single": "accuracy", "multi": "exact_match", "regression": "mae"}
"""What a row of metrics has beside the loss: the share of texts that are right, that are right in every class, or the
mean absolute error."""


class Classification(TrainingTask[Classifier, LabelBatch]):
    """Trains a classifier: cross-entropy for one class, binary cross-entropy for several, squared error for numbers.

    Args:
        model: has a score for each label.
        optimizer: see `TrainingTask`.
        schedule: see `TrainingTask`.
        description: its task is a `LabelTask`.
        class_weights: see `class_weights`; None for equal ones.
        token_dropout: share of a text's tokens that are left out while it is learned, by chance and anew each time
            (word dropout, Iyyer et al. 2015).
        label_smoothing: share of each answer that is spread over all classes (Szegedy et al. 2016, section 7).
    """

    def __init__(
        self,
        model: Classifier,
        optimizer: OptimizerSpec,
        schedule: Schedule,
        description: Description,
        class_weights: Tensor | None = None,
        token_dropout: float = 0.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(model, optimizer, schedule, description)
        labels = LabelTask.from_plain(description.task)
        self.kind: LabelKind = labels.label_kind
        self.headline = HEADLINES[self.kind]
        self.train_scores: list[Tensor] = []
        """The headline figure of the micro-batches since the last row of metrics."""
        self.token_dropout, self.label_smoothing = token_dropout, label_smoothing
        self.register_buffer("class_weights", class_weights, persistent=False)
        self._val_metrics = _metrics(self.kind, len(labels.labels))
        self._val_figures: dict[str, float] = {}

    def training_step(self, batch: LabelBatch, batch_idx: int) -> Tensor:
        """Every text weighs as its class does, however many there are in this micro-batch or on this rank."""
        mask = thinned(batch.mask, self.token_dropout) if self.token_dropout else batch.mask
        logits = self.model(batch.ids, mask).float()
        loss = self._losses(logits, batch.labels, self.label_smoothing).mean()
        self.train_losses.append(loss.detach())
        self.train_scores.append(_headline(probabilities(logits.detach(), self.kind), batch.labels, self.kind))
        return loss

    def validation_step(self, batch: LabelBatch, batch_idx: int) -> None:
        logits = self.model(batch.ids, batch.mask).float()
        self.count_val_loss(self._losses(logits, batch.labels).sum(), len(logits))
        outputs = probabilities(logits, self.kind)
        self._val_metrics.update(outputs, batch.labels if self.kind == "regression" else batch.labels.long())

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self._val_figures = {name: float(value) for name, value in self._val_metrics.compute().items()}
        self._val_metrics.reset()

    def figures(self, stage: Literal["train", "val"], loss: float) -> dict[str, float]:
        """The headline figure; of a validation, macro F1 as well.

        Of several classes, one that no row has and no answer gives counts as 0 in it.
        """
        if stage == "val":
            return self._val_figures
        mean = self.mean(self.train_scores)
        self.train_scores.clear()
        return {self.headline: mean}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Name the weights as the plain language model does, and the head beside them."""
        super().on_save_checkpoint(checkpoint)
        weights = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name.removeprefix(_TRANSFORMER): tensor for name, tensor in weights.items()}
        checkpoint[_TRAIN_SCORES] = of_all_processes(self.train_scores)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        weights = checkpoint["state_dict"]
        checkpoint["state_dict"] = {
            name if name == SCORE else _TRANSFORMER + name: tensor for name, tensor in weights.items()
        }
        super().on_load_checkpoint(checkpoint)
        self.train_scores = of_this_process(checkpoint[_TRAIN_SCORES])

    def on_train_start(self) -> None:
        super().on_train_start()
        self.train_scores = [score.to(self.device) for score in self.train_scores]

    def _losses(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """The loss of each text, (B,)."""
        weights = self.class_weights
        assert weights is None or isinstance(weights, Tensor)
        if self.kind == "regression":
            return (logits.squeeze(1) - labels).square()
        if self.kind == "single":
            return F.cross_entropy(logits, labels, weight=weights, reduction="none", label_smoothing=smoothing)
        return F.binary_cross_entropy_with_logits(logits, labels, pos_weight=weights, reduction="none").mean(dim=1)


def thinned(mask: Tensor, dropout: float) -> Tensor:
    """A mask (B, T) without some of its tokens, by chance; a text that would lose all keeps all."""
    kept = mask & (torch.rand(mask.shape, device=mask.device) >= dropout)
    return torch.where(kept.any(dim=1, keepdim=True), kept, mask)


def class_weights(wanted: ClassWeights, data: LabelDataModule) -> Tensor | None:
    """Weights (L,) for the loss, or None for equal ones.

    For one class they are scaled so that a training row weighs 1 on average, which leaves the learning rate its
    meaning; `balanced` gives every class the same sum. For several classes they weigh the texts to which a class
    applies; `balanced` gives these and the others the same sum.

    Args:
        wanted: see `ClassWeights`; numbers are in the order of the classes.
        data: the rows to train on.

    Raises:
        UserError: if the numbers do not fit the classes, or there are no classes to weigh.
    """
    if wanted == "none":
        return None
    if data.kind == "regression":
        raise UserError("class_weights: numbers have no classes to weigh; set class_weights=none")
    counts, rows, several = data.class_counts(), len(data.train), data.kind == "multi"
    if wanted == "balanced":
        return (rows - counts).clamp(min=1) / counts if several else rows / (len(counts) * counts)
    if len(wanted) != len(counts) or not all(0 < weight < math.inf for weight in wanted):
        raise UserError(
            f"class_weights: {wanted} does not fit; it must be none, balanced or {len(counts)} finite numbers above 0, "
            f"for {', '.join(data.classes)}"
        )
    weights = torch.tensor(wanted, dtype=torch.float32)
    return weights if several else weights * rows / (weights * counts).sum()


def _metrics(kind: LabelKind, n: int) -> MetricCollection:
    metrics: dict[str, Any] = {HEADLINES[kind]: MeanAbsoluteError()}
    if kind == "single":
        metrics = {HEADLINES[kind]: MulticlassAccuracy(n, average="micro"), "macro_f1": MulticlassF1Score(n)}
    elif kind == "multi" and n > 1:
        metrics = {HEADLINES[kind]: MultilabelExactMatch(n), "macro_f1": MultilabelF1Score(n)}
    elif kind == "multi":
        metrics = {HEADLINES[kind]: BinaryAccuracy(), "macro_f1": BinaryF1Score()}
    return MetricCollection(metrics)


def _headline(outputs: Tensor, labels: Tensor, kind: LabelKind) -> Tensor:
    if kind == "regression":
        return (outputs - labels).abs().mean()
    if kind == "single":
        return (outputs.argmax(dim=1) == labels).float().mean()
    return ((outputs > THRESHOLD) == labels.bool()).all(dim=1).float().mean()
