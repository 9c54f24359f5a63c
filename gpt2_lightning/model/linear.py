"""The one layer that holds nearly all weights."""

from __future__ import annotations

from torch import Tensor, nn

from gpt2_lightning.model.config import GPT2Config
from gpt2_lightning.model.kernels import KERNELS


class Linear(nn.Linear):
    """A linear layer by the configured kernels."""

    def __init__(self, config: GPT2Config, n_in: int, n_out: int, bias: bool = True) -> None:
        super().__init__(n_in, n_out, bias)
        self.kernels = KERNELS[config.kernels]

    def forward(self, x: Tensor) -> Tensor:
        return self.kernels.linear(x, self.weight, self.bias)
