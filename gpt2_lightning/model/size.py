"""Parameters, memory and FLOPs of a configuration, without allocating anything."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.model.config import GPT2Config
from gpt2_lightning.model.gpt2 import GPT2
from gpt2_lightning.model.meta import on_meta_device

TRAINING_BYTES_PER_PARAMETER = 16
"""float32 weight, gradient, and AdamW's two moments."""


def count_parameters(config: GPT2Config) -> int:
    """Number of parameters, tied weights once."""
    with on_meta_device():
        return sum(parameter.numel() for parameter in GPT2(config).parameters())


def training_bytes(config: GPT2Config) -> int:
    """Bytes of weights, gradients and the state of AdamW in float32, without activations."""
    return TRAINING_BYTES_PER_PARAMETER * count_parameters(config)


def flops_per_token(config: GPT2Config) -> int:
    """FLOPs to train on one token at full context: forward, and twice that for backward.

    Two for each weight of a matrix product (12 C² in a block, V C in the head), and 4 T C in a block for the attention
    scores and the weighted sum of values (Chowdhery et al. 2022, appendix B, which includes the masked half). Embedding
    look-ups, norms and biases are not counted.
    """
    in_blocks = config.n_layer * (2 * 12 * config.n_embd**2 + 4 * config.block_size * config.n_embd)
    in_head = 2 * config.vocab_rows * config.n_embd
    return 3 * (in_blocks + in_head)


@dataclass(frozen=True)
class Work:
    """FLOPs to train a network on one token."""

    in_weights: int
    """In products with weights."""
    per_key: int
    """For each key, in the attention scores and the weighted sum of values."""

    def per_token(self, context: int) -> int:
        """FLOPs of a token in a context of this many tokens, masked keys included."""
        return self.in_weights + context * self.per_key


def training_work(model: GPT2 | Classifier) -> Work:
    """FLOPs to train the trainable parameters of a network; equal to `flops_per_token` if all are trainable.

    The forward pass uses every weight once. The backward pass uses it once more for the gradient of its input, from the
    last block down to the first with a trainable parameter, and once more where it is trainable. Recomputation to save
    memory and the few scores of a classifier are not counted.
    """
    network = model.transformer if isinstance(model, Classifier) else model
    goes_through = _trains(network.wte) or _trains(network.wpe)
    in_weights = per_key = 0
    for block in network.h:
        goes_through = goes_through or _trains(block)
        in_weights += _in_weights(block, goes_through)
        per_key += 4 * network.config.n_embd * (3 if goes_through else 1)
    if network is model:
        in_weights += _in_weights(network.lm_head, goes_through or _trains(network.ln_f))
    return Work(in_weights, per_key)


def _in_weights(module: nn.Module, goes_through: bool) -> int:
    matrices = [parameter for parameter in module.parameters() if parameter.dim() == 2]
    trained = sum(matrix.numel() for matrix in matrices if matrix.requires_grad)
    return 2 * (sum(matrix.numel() for matrix in matrices) * (2 if goes_through else 1) + trained)


def _trains(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())
