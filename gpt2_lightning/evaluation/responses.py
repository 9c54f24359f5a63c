"""The loss of answers to instructions."""

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
    """How well answers are predicted."""

    loss: float
    """Nats per token that carries loss, over all of them."""
    tokens: int
    """How many these are."""

    @property
    def perplexity(self) -> float:
        return perplexity(self.loss)


@torch.inference_mode()
def response_loss(model: GPT2, batches: Iterable[Batch]) -> ResponseLoss:
    """The mean over all tokens to be predicted, whatever batches they are in.

    Args:
        model: in evaluation mode.
        batches: with at least one target; see `InstructDataModule.batches`.
    """
    device = model.wte.weight.device
    total, tokens = 0.0, 0
    for inputs, targets, documents in batches:
        documents = None if documents is None else documents.to(device)
        total += float(model(inputs.to(device), targets.to(device), document_ids=documents))
        tokens += int((targets != IGNORED).sum())
    return ResponseLoss(total / tokens, tokens)
