"""The arithmetic of GPT-2, twice behind one signature: `fused` calls torch's kernels, `explicit` writes them out.

Each set is a module with five functions:

    linear(x, weight, bias, packed) -> (..., out)
    pack(weight) -> a copy for `linear`, or None
    layer_norm(x, weight, bias, eps) -> x's shape
    gelu(x, kind) -> x's shape
    attention(q, k, v, dropout, visible) -> (B, H, T, D)

and the two agree in outputs and in gradients.
"""

from types import ModuleType

from gpt2_lightning.model.kernels import explicit, fused

GELUS = ("tanh", "exact")
"""Kinds of GELU: GPT-2's approximation, and what it approximates."""
KERNELS: dict[str, ModuleType] = {"fused": fused, "explicit": explicit}
