"""A small network of Hugging Face's, to generate with."""

from __future__ import annotations

import torch
from transformers import GPT2Config, GPT2LMHeadModel


def huggingface_model(vocab_size: int) -> GPT2LMHeadModel:
    """Weights several times as large as usual, so that a text depends on all that was read."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=vocab_size, n_positions=31, n_embd=12, n_layer=1, n_head=2, initializer_range=0.4,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()
