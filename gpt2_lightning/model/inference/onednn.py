"""Matrix products without gradients on a CPU, by oneDNN.

torch calls its BLAS library, which takes twice as long on processors of other makers than that library's. On those of
its own maker it is faster for a single token, if the weight is stored by columns.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_LARGE = 2**19
"""Elements of a weight from which oneDNN saves more than the 30 µs that its call costs."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, packed: Tensor | None = None) -> Tensor:
    """`F.linear` without gradients; `packed` is what `pack` made of the weight, or its columns, for a single token."""
    if packed is not None and packed.is_mkldnn:
        return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    if packed is not None and x.numel() == x.size(-1):  # columns are slower for several tokens, as of a draft
        return F.linear(x, packed, bias)
    if x.dtype == torch.float32 and is_faster(weight):
        return F.linear(x.to_mkldnn(), weight, bias).to_dense()
    return F.linear(x, weight, bias)


def pack(weight: Tensor) -> Tensor:
    """A copy in the layout that oneDNN multiplies fastest; see `is_faster`."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach())


def is_faster(weight: Tensor) -> bool:
    """Whether products with a weight of this kind and size are faster by oneDNN, or by a packed copy."""
    return (
        not torch.compiler.is_compiling()
        and weight.numel() >= _LARGE
        and weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and torch.backends.mkldnn.is_available()
        and (weight.dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
        and not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"))
    )
