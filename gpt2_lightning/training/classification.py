"""The LightningModule of classification: what happens to a batch of labeled texts."""

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
from gpt2_lightning.training.lightning_module import TrainingModule, gather_interleaved, own_share
from gpt2_lightning.training.optimizers import OptimizerSpec
from gpt2_lightning.training.schedules import Schedule

ClassWeights = Literal["none", "balanced"] | list[float]
"""How much each class counts in the loss: alike, in inverse proportion to its rows, or as stated."""
_TRANSFORMER = "transformer."
_TRAIN_SCORES = "train_scores"


class Classification(TrainingModule[Classifier, LabelBatch]):
    """Trains a classifier with the loss and the metrics of its label kind.

    Args:
        model: has a score for each label.
        optimizer: see `TrainingModule`.
        schedule: see `TrainingModule`.
        description: its task is a `LabelTask`; see `TrainingModule`.
        class_weights: see `class_weights`; None for equal ones.
        token_dropout: share of a text's tokens that are left out while it is learned, by chance and anew each time
            (word dropout, Iyyer et al. 2015).
        label_smoothing: share of each answer that is spread over all classes (Szegedy et al. 2016, section 7).
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
        """The headline metric of the micro-batches since the last row of metrics."""
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
        """Every text weighs as its class does, however many there are in this micro-batch or on this rank."""
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

    def compute_metrics(self, stage: Literal["train", "val"], loss: float) -> dict[str, float]:
        """Compute the headline metric of training, or all metrics of the label kind of a validation.

        In macro F1, a class that no row has and that is never predicted counts as 0.
        """
        if stage == "val":
            found = {name: float(value) for name, value in self._kind_metrics.compute().items()}
            self._kind_metrics.reset()
            return found
        mean = self.mean_over_ranks(self.train_scores)
        self.train_scores.clear()
        return {self.kind.headline: mean}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Name the weights as the plain language model does, and the head beside them."""
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
        """The loss of each text, (B,)."""
        weights = self.class_weights
        assert weights is None or isinstance(weights, Tensor)
        return self.kind.losses(logits, labels, weights, smoothing)


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
