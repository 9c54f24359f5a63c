"""The LightningModule of text classification."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from gpt2_lightning.checkpoints.content import SCORE, Description
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.data.classification.batches import LabelBatch
from gpt2_lightning.data.classification.datamodule import LabelDataModule
from gpt2_lightning.errors import UserError
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.training.lightning_module import TrainingModule
from gpt2_lightning.training.optimizers import OptimizerSpec
from gpt2_lightning.training.restored_state import gather_interleaved, own_share
from gpt2_lightning.training.schedules import Schedule

ClassWeights = Literal["none", "balanced"] | list[float]
"""Weights of the classes in the loss: equal, in inverse proportion to their rows, or given as numbers."""
_TRANSFORMER = "transformer."
_TRAIN_SCORES = "train_scores"


class Classification(TrainingModule[Classifier, LabelBatch]):
    """Train a classifier with the loss and the metrics of its label kind.

    Args:
        model: the classifier, with one score per label.
        optimizer: see `TrainingModule`.
        schedule: see `TrainingModule`.
        description: description with a `LabelTask` as its task; see `TrainingModule`.
        class_weights: weights of the classes, see `class_weights`; None for equal ones.
        token_dropout: probability that a token of a training text is masked, drawn anew in each step (word dropout,
            Iyyer et al. 2015).
        label_smoothing: share of each target that is spread over all classes (Szegedy et al. 2016, section 7).
        metrics: see `TrainingModule`.
    """

    def __init__(
        self,
        model: Classifier,
        optimizer: OptimizerSpec | None = None,
        schedule: Schedule | None = None,
        description: Description | None = None,
        class_weights: Tensor | None = None,
        token_dropout: float = 0.0,
        label_smoothing: float = 0.0,
        metrics: Mapping[str, Metric] | None = None,
    ) -> None:
        super().__init__(model, optimizer, schedule, description, metrics)
        self.train_scores: list[Tensor] = []
        """Headline metric of each micro-batch since the last row of metrics."""
        self.token_dropout, self.label_smoothing = token_dropout, label_smoothing
        self.register_buffer("class_weights", class_weights, persistent=False)

    def _use(self, description: Description) -> None:
        super()._use(description)
        labels = LabelTask.from_plain(description.task)
        self.kind = labels.kind
        self.headline = self.kind.headline
        self._kind_metrics = MetricCollection(dict(self.kind.metrics(len(labels.labels))))

    def _task(self) -> dict[str, Any]:
        data = self.data
        assert isinstance(data, LabelDataModule)
        labels = LabelTask(data.classes, data.kind.name, self.model.pooling, data.block_size, data.add_prefix_space)
        return labels.to_plain()

    def training_step(self, batch: LabelBatch, batch_idx: int) -> Tensor:
        """Return the mean loss, in which a text has the weight of its class in all micro-batches and on all ranks."""
        mask = thinned(batch.mask, self.token_dropout) if self.token_dropout else batch.mask
        logits = self.model(batch.ids, mask).float()
        loss = self._losses(logits, batch.labels, self.label_smoothing).mean()
        self.train_losses.append(loss.detach())
        self.train_scores.append(self.kind.batch_metric(self.kind.outputs(logits.detach()), batch.labels))
        return loss

    def validation_step(self, batch: LabelBatch, batch_idx: int) -> None:
        logits = self.model(batch.ids, batch.mask).float()
        self.count_val_loss(self._losses(logits, batch.labels).sum(), len(logits))
        self._kind_metrics.update(self.kind.outputs(logits), batch.labels)
        self.update_metrics(logits, batch.labels)

    def on_train_batch_end(self, outputs: Any, batch: LabelBatch, batch_idx: int) -> None:
        super().on_train_batch_end(outputs, batch, batch_idx)
        if self.logs_itself:
            self.log(f"train_{self.headline}", self.train_scores[-1], prog_bar=True)
            self.train_scores.clear()

    def metric_names(self) -> list[str]:
        of_validation = [f"val/{name}" for name in self.kind.metric_names]
        return [*super().metric_names(), f"train/{self.headline}", *of_validation]

    def compute_metrics(self, stage: Literal["train", "val"], loss: float) -> dict[str, float]:
        """Compute the headline metric in training, or all metrics of the label kind in validation.

        In macro F1, a class without rows that is never predicted counts as 0.
        """
        if stage == "val":
            found = {name: float(value) for name, value in self._kind_metrics.compute().items()}
            self._kind_metrics.reset()
            return found
        mean = self.mean_over_ranks(self.train_scores)
        self.train_scores.clear()
        return {self.kind.headline: mean}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Name the weights as in the plain language model, beside those of the head."""
        super().on_save_checkpoint(checkpoint)
        weights = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name.removeprefix(_TRANSFORMER): tensor for name, tensor in weights.items()}
        checkpoint[_TRAIN_SCORES] = gather_interleaved(self.train_scores)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        weights = checkpoint["state_dict"]
        checkpoint["state_dict"] = {
            name if name == SCORE else _TRANSFORMER + name: tensor for name, tensor in weights.items()
        }
        super().on_load_checkpoint(checkpoint)
        self.train_scores = own_share(checkpoint[_TRAIN_SCORES])

    def on_train_start(self) -> None:
        super().on_train_start()
        self.train_scores = [score.to(self.device) for score in self.train_scores]

    def _losses(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """Return the loss of each text, (B,)."""
        weights = self.class_weights
        assert weights is None or isinstance(weights, Tensor)
        return self.kind.losses(logits, labels, weights, smoothing)


def thinned(mask: Tensor, dropout: float) -> Tensor:
    """Mask random tokens of a mask (B, T) with probability `dropout`; a text that would lose all tokens keeps all."""
    kept = mask & (torch.rand(mask.shape, device=mask.device) >= dropout)
    return torch.where(kept.any(dim=1, keepdim=True), kept, mask)


def class_weights(wanted: ClassWeights, data: LabelDataModule) -> Tensor | None:
    """Compute the class weights of the loss.

    If a text has one class, weights are scaled to a mean of 1 over the training rows, which keeps the scale of the
    loss and therefore of the learning rate; `balanced` gives every class the same total weight. If a text may have
    several classes, each weight applies to the texts with that class; `balanced` gives texts with and without it the
    same total weight.

    Args:
        wanted: see `ClassWeights`; numbers are in the order of the classes.
        data: the data module, with the training rows.

    Returns:
        Weights (L,), or None for equal ones.

    Raises:
        UserError: if the numbers do not match the classes, or the label kind has no classes.
    """
    if wanted == "none":
        return None
    if not data.classes:
        raise UserError("class_weights: numbers have no classes to weigh; set class_weights=none")
    counts, rows = data.class_counts(), len(data.train)
    if wanted == "balanced":
        return data.kind.balanced_weights(counts, rows)
    if len(wanted) != len(counts) or not all(0 < weight < math.inf for weight in wanted):
        raise UserError(
            f"class_weights: {wanted} does not fit; it must be none, balanced or {len(counts)} finite numbers above 0, "
            f"for {', '.join(data.classes)}"
        )
    return data.kind.scaled_weights(torch.tensor(wanted, dtype=torch.float32), counts, rows)
