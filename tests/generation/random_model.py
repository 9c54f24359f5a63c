"""A small network with weights large enough that every input matters."""

from __future__ import annotations

import torch

from gpt2_lightning.model import GPT2, GPT2Config

BLOCK = 11

CONFIG = GPT2Config(vocab_size=29, block_size=BLOCK, n_layer=2, n_head=3, n_embd=21, tied_head=False)


def make_model(config: GPT2Config) -> GPT2:
    """Weights large enough that the likeliest token depends on all that was read."""
    torch.manual_seed(0)
    model = GPT2(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.copy_(torch.randn_like(parameter) * 0.5)
    return model
