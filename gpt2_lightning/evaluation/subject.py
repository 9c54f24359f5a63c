"""The model under evaluation."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from gpt2_lightning.model import GPT2
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.tokenizers import Tokenizer


@dataclass(frozen=True)
class Subject:
    """The model under evaluation."""

    model: GPT2
    """In evaluation mode, on its device."""
    tokenizer: Tokenizer
    location: str
    """The checkpoint, folder or Hub address, for messages."""
    step: int | None = None
    """The optimizer step, for a checkpoint of a run."""
    task: Mapping[str, Any] = field(default_factory=dict)
    """Fine-tuning task; see `checkpoints.content.Description.task`."""
    classifier: Classifier | None = None
    """The same model with its head, in evaluation mode on the same device."""
    run_config: Mapping[str, Any] = field(default_factory=dict)
    """Configuration of the training run; see `checkpoints.content.Description.run_config`."""
    tokens_per_batch: int = 8192
    """Largest number of tokens of a forward pass, padding included."""
    devices: tuple[torch.device, ...] = ()
    """Devices that compute besides that of the model, each with a copy of it."""

    @cached_property
    def replicas(self) -> tuple[GPT2, ...]:
        """The model, and a copy of it on each further device."""
        return self.model, *(copy.deepcopy(self.model).to(device) for device in self.devices)
