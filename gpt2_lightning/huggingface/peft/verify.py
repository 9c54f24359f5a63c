"""Logits and scores of an adapter's folder in PEFT."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpt2_lightning.huggingface.config import config_to_huggingface
from gpt2_lightning.huggingface.verify import scores_of
from gpt2_lightning.huggingface.weights import recast, to_huggingface
from gpt2_lightning.model import GPT2


@torch.no_grad()
def peft_logits(base: GPT2, folder: Path, ids: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Logits (B, T, V) of the base in transformers with the folder's adapter; None if PEFT is not installed."""
    model = _adapted(base, folder, None, dtype)
    if model is None:
        return None
    logits: Tensor = model(ids).logits
    return logits


def peft_scores(base: GPT2, folder: Path, labels: int, ids: Tensor, mask: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Scores (B, labels) of the base with the folder's adapter and head; None if PEFT is not installed."""
    model = _adapted(base, folder, labels, dtype)
    return None if model is None else scores_of(model, ids, mask, pad=None)


def _adapted(base: GPT2, folder: Path, labels: int | None, dtype: torch.dtype) -> Any:
    """Load the model with its adapter in PEFT; `labels` is the number of labels of a classifier, None otherwise."""
    if any(importlib.util.find_spec(name) is None for name in ("transformers", "peft")):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tied weights and deprecated names
        import peft
        from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel

        fields = config_to_huggingface(base.config) | {"bos_token_id": None, "eos_token_id": None}
        network: Any = GPT2LMHeadModel
        if labels is not None:
            fields["num_labels"], network = labels, GPT2ForSequenceClassification
        network = network(GPT2Config(**fields)).to(dtype)
        network.load_state_dict(to_huggingface(recast(base, dtype)), strict=False)
        network.tie_weights()
        return peft.PeftModel.from_pretrained(network, folder).to(dtype).eval()
