"""The same arithmetic as `explicit`, by torch's fused kernels."""

import torch
from torch import Tensor
from torch.nn import functional as F

_LARGE = 2**19
"""Elements of a weight from which oneDNN saves more than the 30 µs that its call costs."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, packed: Tensor | None = None) -> Tensor:
    if packed is not None and not torch.is_grad_enabled():
        return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    if x.dtype == torch.float32 and _is_for_onednn(weight):
        return F.linear(x.to_mkldnn(), weight, bias).to_dense()
    return F.linear(x, weight, bias)


def pack(weight: Tensor) -> Tensor | None:
    """A copy as oneDNN multiplies fastest by; None where that would save nothing."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach()) if _is_for_onednn(weight) else None


def _is_for_onednn(weight: Tensor) -> bool:
    """Whether to multiply by oneDNN: on a CPU, without gradients.

    torch would call its BLAS library, which takes twice as long on processors that are not of that library's maker.
    """
    return (
        not torch.compiler.is_compiling()
        and weight.numel() >= _LARGE
        and weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and torch.backends.mkldnn.is_available()
        and (weight.dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
        and not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"))
    )


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, weight.shape, weight, bias, eps)


def gelu(x: Tensor, kind: str = "tanh") -> Tensor:
    return F.gelu(x, approximate="none" if kind == "exact" else kind)


def attention(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0, visible: Tensor | None = None) -> Tensor:
    T, S = q.size(-2), k.size(-2)
    if visible is None and T == S:
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
    if visible is None and T > 1:  # is_causal aligns the first query with the first key; here the last ones meet
        visible = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(diagonal=S - T)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, dropout_p=dropout)
