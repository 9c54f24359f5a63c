"""The arithmetic of GPT-2, twice behind one signature: `fused` calls torch's kernels, `explicit` writes them out.

The two agree in outputs and in gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

from torch import Tensor

from gpt2_lightning.model.kernels import explicit, fused

GELUS = ("tanh", "exact")
"""Kinds of GELU: GPT-2's approximation, and what it approximates."""


class Kernels(NamedTuple):
    """A set of functions."""

    linear: Callable[..., Tensor]
    """(x, weight, bias, packed) -> (…, out)"""
    pack: Callable[[Tensor], Tensor | None]
    """(weight) -> a copy for `linear`, or None"""
    layer_norm: Callable[..., Tensor]
    """(x, weight, bias, eps) -> x's shape"""
    gelu: Callable[..., Tensor]
    """(x, kind) -> x's shape"""
    attention: Callable[..., Tensor]
    """(q, k, v, dropout, visible) -> (B, H, T, D)"""

    @classmethod
    def of(cls, module: ModuleType) -> Kernels:
        """Those of a module."""
        return cls(*(getattr(module, name) for name in cls._fields))


KERNELS = {"fused": Kernels.of(fused), "explicit": Kernels.of(explicit)}
