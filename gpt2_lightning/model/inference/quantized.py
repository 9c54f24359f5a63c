"""Weights as int8 for inference on a CPU: a quarter of the memory of float32, and of what a token reads of it.

Each row of a weight, an output channel, has a scale: its largest absolute value is 127. Activations are float32 between
layers. On processors with VNNI a product quantizes its input as well, each token with a scale of its own, so that a
text does not depend on the others of its batch. On other processors a product is computed in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gpt2_lightning.model.gpt2 import GPT2, Linear
from gpt2_lightning.model.inference.huge_pages import collapse

_LARGEST = 127
_SLICE = 2**18
"""Elements of a weight that are float32 at a time: 1 MiB, which stays in the second cache."""


def quantize(model: GPT2) -> None:
    """Replace the weights of a model by int8 ones, in place; biases, norms and positions stay float32.

    Each weight is freed when it has been quantized. The rows of a tied head are kept twice, in the layout of oneDNN and
    as the embedding.

    Args:
        model: on the CPU, in evaluation mode, in float32. It has no gradients and no state to save from then on.
    """
    head = model.lm_head
    for module in [*model.modules()]:
        for name, layer in [*module.named_children()]:
            if isinstance(layer, Linear) and layer is not head:
                setattr(module, name, Int8Linear(layer))
    tied = quantize_rows(model.wte.weight.detach()) if model.config.tied_head else None
    model.lm_head = Int8Linear(head, tied)  # type: ignore[assignment]  # called like a Linear
    model.wte = Int8Embedding(*(tied or quantize_rows(model.wte.weight.detach())))  # type: ignore[assignment]  # likewise
    model.requires_grad_(False)


def is_quantized(model: GPT2) -> bool:
    """Whether the weights of a model are int8."""
    return isinstance(model.wte, Int8Embedding)


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round each row to multiples of a 127th of its largest absolute value.

    Args:
        weight: (N, K), float32.

    Returns:
        Multiples, (N, K), int8, and the scale of each row, (N,), float32: their product is about the weight.
    """
    scales = weight.abs().amax(dim=1) / _LARGEST  # (N,)
    divisors = scales.where(scales > 0, 1.0).unsqueeze(1)  # (N, 1)
    multiples = torch.empty_like(weight, dtype=torch.int8)
    for part, rows, divisor in zip(*(tensor.split(2**12) for tensor in (multiples, weight, divisors)), strict=True):
        part.copy_((rows / divisor).round_())
    return multiples, scales


class Int8Linear(nn.Module):
    """A linear layer with an int8 weight.

    Args:
        layer: the layer, in float32; its weight may have padding rows, which are cut off.
        quantized: what `quantize_rows` returned for its weight, if that is at hand.
    """

    bias: Tensor | None
    scales: Tensor

    def __init__(self, layer: Linear, quantized: tuple[Tensor, Tensor] | None = None) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        multiples, scales = (
            tensor[: self.out_features] for tensor in quantized or quantize_rows(layer.weight.detach())
        )
        self.register_buffer("scales", scales)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach())
        self.product = (OneDNNProduct if has_vnni() else SlicedProduct)(multiples, scales, self.bias)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        y = self.product(x.reshape(-1, self.in_features))
        return y.view(*x.shape[:-1], self.out_features)


class Int8Embedding(nn.Module):
    """An embedding with an int8 weight.

    Args:
        multiples: rows as `quantize_rows` returns them, (V, C).
        scales: their scales, (V,).
    """

    multiples: Tensor
    scales: Tensor
    weight: Tensor
    """No rows, (0, C): the device and dtype of what `forward` returns."""

    def __init__(self, multiples: Tensor, scales: Tensor) -> None:
        super().__init__()
        self.register_buffer("multiples", multiples)
        self.register_buffer("scales", scales)
        self.register_buffer("weight", scales.new_empty(0, multiples.size(1)), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.multiples[ids] * self.scales[ids].unsqueeze(-1)


def has_vnni() -> bool:
    """Whether the processor multiplies int8 exactly and fast: with AVX2 alone, sums of two products can overflow."""
    if not torch.backends.mkldnn.is_available():
        return False
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}  # not in older versions
    return bool(found.get("avx_vnni")) or torch.cpu._is_vnni_supported()


class OneDNNProduct:
    """x Wᵀ + b of int8 rows by oneDNN, for which each row of x is rounded to multiples of a 127th of its largest value.

    oneDNN's kernels for all processors take x as uint8 with a zero point, and one scale for all of x. Rows therefore
    have the scale 1 there, and are scaled afterwards. A row of zeros divides by 0, and what comes of it is scaled by 0.
    """

    _ZERO_POINT = 128

    def __init__(self, multiples: Tensor, scales: Tensor, bias: Tensor | None) -> None:
        self._weight = torch.ops.onednn.qlinear_prepack(multiples.contiguous(), None)
        collapse(self._weight)
        self._scales = scales / _LARGEST
        self._zero_points = torch.zeros(len(scales), dtype=torch.int64)
        self._bias = scales.new_zeros(()) if bias is None else bias
        self._largest = torch.tensor(float(_LARGEST))
        self._offset = torch.tensor(self._ZERO_POINT + 0.5)  # conversion to an integer rounds down
        self._multiply = torch.ops.onednn.qlinear_pointwise.default

    def __call__(self, x: Tensor) -> Tensor:
        largest = x.abs().amax(dim=-1, keepdim=True)  # (M, 1)
        rounded = torch.addcmul(self._offset, x, self._largest / largest).byte()  # (M, K), 1 to 255
        y = self._multiply(
            rounded, 1.0, self._ZERO_POINT, self._weight, self._scales, self._zero_points, None,
            1.0, 0, torch.float32, "none", [], "",
        )  # (M, N)  # fmt: skip
        return torch.addcmul(self._bias, y, largest)


class SlicedProduct:
    """x Wᵀ + b in float32, for which a slice of the int8 rows at a time is converted within the processor's cache."""

    def __init__(self, multiples: Tensor, scales: Tensor, bias: Tensor | None) -> None:
        self._multiples, self._scales = multiples, scales
        collapse(multiples)
        self._bias = scales.new_zeros(()) if bias is None else bias

    def __call__(self, x: Tensor) -> Tensor:
        n_out, n_in = self._multiples.shape
        step = max(1, _SLICE // n_in)
        y, rows = x.new_empty(len(x), n_out), x.new_empty(min(step, n_out), n_in)
        for start in range(0, n_out, step):
            part = self._multiples[start : start + step]
            torch.mm(x, rows[: len(part)].copy_(part).t(), out=y[:, start : start + step])
        return torch.addcmul(self._bias, y, self._scales)
