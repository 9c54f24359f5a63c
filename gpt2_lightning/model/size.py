"""What a configuration costs, by counting: nothing is allocated."""

from __future__ import annotations

import torch

from gpt2_lightning.model.config import GPT2Config
from gpt2_lightning.model.gpt2 import GPT2

TRAINING_BYTES_PER_PARAMETER = 16
"""float32 weight, gradient, and AdamW's two moments."""


def count_parameters(config: GPT2Config) -> int:
    """Number of trained values, tied weights once."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in GPT2(config).parameters())


def training_bytes(config: GPT2Config) -> int:
    """Memory of weights, gradients and AdamW's state in float32, without activations."""
    return TRAINING_BYTES_PER_PARAMETER * count_parameters(config)


def flops_per_token(config: GPT2Config) -> int:
    """FLOPs to train on one token at full context: forward, and twice that for backward.

    A multiplication and an addition for each weight that takes part in a matrix product (12 C² in a block, V C in the
    head), and 4 T C in a block for the attention scores and the mixing of values (Chowdhery et al. 2022, appendix B,
    which counts the masked half too). Embedding look-ups, norms and biases are left out.
    """
    in_blocks = config.n_layer * (2 * 12 * config.n_embd**2 + 4 * config.block_size * config.n_embd)
    in_head = 2 * config.vocab_size * config.n_embd
    return 3 * (in_blocks + in_head)
