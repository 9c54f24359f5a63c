"""The LightningModule of language modeling."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
from gpt2_lightning.data.sampling.windows import Batch
from gpt2_lightning.evaluation.language_metrics import bits_per_byte, perplexity
from gpt2_lightning.model import GPT2
from gpt2_lightning.model.loss import IGNORED
from gpt2_lightning.training.lightning_module import TrainingModule


class LanguageModeling(TrainingModule[GPT2, Batch]):
    """Train a GPT2 to predict the next token; see `TrainingModule` for the arguments."""

    headline = "bits_per_byte"

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss, in which every token of a step has equal weight in all micro-batches and on all ranks."""
        total = self._forward(batch, batch.targets)
        self.train_losses.append(total.detach() / (batch.targets != IGNORED).sum())
        return total / (len(batch.targets) * self.data.samples.targets_per_sample)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        predicted = batch.targets != IGNORED  # (B, T)
        if self.metrics:  # metrics need all logits; the fused loss computes them in chunks
            logits = self._forward(batch)[predicted]  # (N, V)
            targets = batch.targets[predicted]  # (N,)
            total = F.cross_entropy(logits.float(), targets, reduction="sum")
            self.update_metrics(logits, targets)
        else:
            total = self._forward(batch, batch.targets)
        self.count_val_loss(total, predicted.sum())

    def _forward(self, batch: Batch, targets: Tensor | None = None) -> Tensor:
        return self.model(batch.inputs, targets, document_ids=batch.documents, n_documents=batch.n_documents)

    def metric_names(self) -> list[str]:
        names = ["perplexity", *(["bits_per_byte"] if isinstance(self.data, TokenDataModule) else [])]
        return [*super().metric_names(), *(f"{stage}/{name}" for stage in ("train", "val") for name in names)]

    def compute_metrics(self, stage: Literal["train", "val"], loss: float) -> dict[str, float]:
        metrics = {"perplexity": perplexity(loss)}
        if isinstance(self.data, TokenDataModule):
            metrics["bits_per_byte"] = bits_per_byte(loss, self.data.bytes_per_token(stage))
        return metrics
