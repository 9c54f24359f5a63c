"""Loss on the answers to instructions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from gpt2_lightning.data.sampling.windows import Batch
from gpt2_lightning.evaluation.language_metrics import perplexity
from gpt2_lightning.model import GPT2
from gpt2_lightning.model.loss import IGNORED


@dataclass(frozen=True)
class ResponseLoss:
    """Loss on the tokens of answers."""

    loss: float
    """Mean loss in nats per target token."""
    tokens: int
    """Number of target tokens."""

    @property
    def perplexity(self) -> float:
        return perplexity(self.loss)


@torch.inference_mode()
def response_loss(model: GPT2, batches: Iterable[Batch]) -> ResponseLoss:
    """Compute the mean loss over the target tokens of all batches.

    Args:
        model: model in evaluation mode.
        batches: batches with at least one target in total; see `InstructDataModule.batches`.
    """
    device = model.wte.weight.device
    total, tokens = 0.0, 0
    for inputs, targets, documents, n_documents in batches:
        documents = None if documents is None else documents.to(device)
        total += float(model(inputs.to(device), targets.to(device), document_ids=documents, n_documents=n_documents))
        tokens += int((targets != IGNORED).sum())
    return ResponseLoss(total / tokens, tokens)
