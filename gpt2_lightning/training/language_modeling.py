"""The LightningModule of language modelling: what happens to a batch."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from gpt2_lightning.checkpoints.content import Description
from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
from gpt2_lightning.data.sampling.windows import Batch
from gpt2_lightning.evaluation.language_metrics import bits_per_byte, perplexity
from gpt2_lightning.model import GPT2
from gpt2_lightning.model.loss import IGNORED
from gpt2_lightning.training.lightning_module import TrainingModule
from gpt2_lightning.training.optimizers import OptimizerSpec
from gpt2_lightning.training.schedules import Schedule


class LanguageModeling(TrainingModule[GPT2, Batch]):
    """Trains a GPT2 to predict the next token; see `TrainingModule` for the arguments."""

    headline = "bits_per_byte"

    def __init__(self, model: GPT2, optimizer: OptimizerSpec, schedule: Schedule, description: Description) -> None:
        super().__init__(model, optimizer, schedule, description)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Every token weighs alike, however many are predicted in this micro-batch or on this rank."""
        total = self.model(batch.inputs, batch.targets, document_ids=batch.documents)
        self.train_losses.append(total.detach() / (batch.targets != IGNORED).sum())
        return total / (len(batch.targets) * self.data.samples.targets_per_sample)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        total = self.model(batch.inputs, batch.targets, document_ids=batch.documents)
        self.count_val_loss(total, (batch.targets != IGNORED).sum())

    def figures(self, stage: Literal["train", "val"], loss: float) -> dict[str, float]:
        figures = {"perplexity": perplexity(loss)}
        if isinstance(self.data, TokenDataModule):
            figures["bits_per_byte"] = bits_per_byte(loss, self.data.bytes_per_token(stage))
        return figures
