"""The parts of a block other than attention, and the block."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gpt2_lightning.model.attention import CausalSelfAttention, Rotate
from gpt2_lightning.model.config import GPT2Config
from gpt2_lightning.model.inference.kv_cache import LayerCache
from gpt2_lightning.model.kernels import KERNELS
from gpt2_lightning.model.linear import Linear


class LayerNorm(nn.Module):
    """Layer norm over the channels, by the configured kernels."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.n_embd))
        self.bias = nn.Parameter(torch.zeros(config.n_embd))
        self.eps = config.layer_norm_epsilon
        self.kernels = KERNELS[config.kernels]

    def forward(self, x: Tensor) -> Tensor:
        return self.kernels.layer_norm(x, self.weight, self.bias, self.eps)


class MLP(nn.Module):
    """Two linear layers with GELU between them, four times as wide inside, applied to each token alone."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.c_fc = Linear(config, config.n_embd, 4 * config.n_embd)
        self.c_proj = Linear(config, 4 * config.n_embd, config.n_embd)
        self.dropout = nn.Dropout(config.resid_pdrop)
        self.gelu = config.gelu
        self.kernels = KERNELS[config.kernels]

    def forward(self, x: Tensor) -> Tensor:
        x = self.kernels.gelu(self.c_fc(x), self.gelu)  # (B, T, 4C)
        return self.dropout(self.c_proj(x))  # (B, T, C)


class Block(nn.Module):
    """Attention, then MLP. Each reads a normed copy of the residual stream and adds its result to it (pre-norm)."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(config)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = LayerNorm(config)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Tensor,
        rotate: Rotate,
        cache: LayerCache | None = None,
        record: list[Tensor] | None = None,
        visible: Tensor | None = None,
    ) -> Tensor:
        x = x + self.attn(self.ln_1(x), rotate, cache, record, visible)  # (B, T, C)
        return x + self.mlp(self.ln_2(x))  # (B, T, C)
