"""Sets of kernels for GPT-2's layer norm, GELU and attention, which compute the same with the same signatures.

`fused` are torch's functions; `explicit` writes out their formulas; `native` are torch's functions but for those that
`native.c` computes faster in training on a CPU. To add a set: its functions in a file here, and its name in `KERNELS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from gpt2_lightning.model.kernels import explicit, native

GELUS = {"tanh": "tanh", "exact": "none"}
"""`approximate` of torch's GELU for each kind: GPT-2's approximation, and the exact function."""


class Kernels(NamedTuple):
    """Functions with the signatures of `torch.nn.functional`."""

    layer_norm: Callable[..., Tensor]
    """`F.layer_norm`: (x, normalized_shape, weight, bias, eps) -> the shape of x."""
    gelu: Callable[..., Tensor]
    """`F.gelu`: (x, approximate) -> the shape of x."""
    attention: Callable[..., Tensor]
    """`F.scaled_dot_product_attention`: (q, k, v, attn_mask, dropout_p, is_causal) -> (B, H, T, D)."""


KERNELS = {
    "fused": Kernels(F.layer_norm, F.gelu, F.scaled_dot_product_attention),
    "native": Kernels(F.layer_norm, native.gelu, F.scaled_dot_product_attention),
    "explicit": Kernels(explicit.layer_norm, explicit.gelu, explicit.scaled_dot_product_attention),
}
