"""The one layer that holds nearly all weights."""

from __future__ import annotations

from torch import Tensor, nn

from gpt2_lightning.model.config import GPT2Config
from gpt2_lightning.model.kernels import KERNELS


class Linear(nn.Linear):
    """A linear layer by the configured kernels.

    Its weight may have more rows than the layer has outputs: these pad a matrix product, and are cut off its result.

    Args:
        config: names the kernels.
        n_in: channels of the input.
        n_out: channels of the output.
        bias: whether there is one.
        padding: rows of the weight beyond `n_out`.
    """

    def __init__(self, config: GPT2Config, n_in: int, n_out: int, bias: bool = True, padding: int = 0) -> None:
        super().__init__(n_in, n_out + padding, bias)
        self.out_features = n_out
        self.kernels = KERNELS[config.kernels]
        self.packed: Tensor | None = None
        """A copy of the weight in the layout that suits the processor; see `packed.packed`."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.kernels.linear(x, self.weight, self.bias, self.packed)
        # A slice of everything would copy its gradient.
        return y if y.size(-1) == self.out_features else y[..., : self.out_features]
