"""What a configuration costs, by counting: nothing is allocated."""

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
    """Number of trained values, tied weights once."""
    with on_meta_device():
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
    in_head = 2 * config.vocab_rows * config.n_embd
    return 3 * (in_blocks + in_head)


@dataclass(frozen=True)
class Work:
    """FLOPs to train a network on one token."""

    in_weights: int
    """In products with weights."""
    per_key: int
    """For each token of the context, in the attention scores and the mixing of values."""

    def per_token(self, context: int) -> int:
        """FLOPs for a token of a text of so many tokens; those that attention hides are counted, too."""
        return self.in_weights + context * self.per_key


def training_work(model: GPT2 | Classifier) -> Work:
    """FLOPs to train what trains of a network, counted as in `flops_per_token`, with which it agrees if all does.

    Forward takes every weight. Backward takes it once more, towards the inputs, from the last block down to the first
    that has a trained parameter; and once more where it trains itself. What is computed again to save memory, and a
    classifier's few scores for a whole text, are left out.
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
