"""Orthogonalization of stacked matrices by Newton-Schulz iterations, the core of Muon."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from gpt2_lightning.training.optimizers.polar_express import Quintic, polar_express

DTYPE = torch.bfloat16
"""Dtype of the result, and of the iterations unless a CPU multiplies faster in float32."""
_JORDAN = (3.4445, -4.7750, 2.0315)
_EPS = 1e-7

Coefficients = Literal["jordan", "polar_express"]
POLYNOMIALS: Mapping[Coefficients, Callable[[int], tuple[Quintic, ...]]] = MappingProxyType(
    {"jordan": lambda steps: (_JORDAN,) * steps, "polar_express": polar_express}
)
"""Functions of the number of iterations that return the polynomial of each one."""


def orthogonalize(stack: Tensor, steps: int, coefficients: Coefficients = "jordan") -> Tensor:
    """Return a factor close to U Vᵀ of each matrix U S Vᵀ.

    Every iteration applies an odd polynomial aX + b(XXᵀ)X + c(XXᵀ)²X. With the coefficients that Jordan et al. 2024
    ("Muon: An optimizer for hidden layers in neural networks") chose to raise small singular values fast, the same in
    every iteration, singular values become about 0.7 to 1.2; with those of Amsel et al. 2025, which differ between
    iterations, the largest error is the smallest possible; see `polar_express`. The order of operations is that of
    `torch.optim.Muon`, for all matrices in one batched product.

    Args:
        stack: matrices (N, A, B).
        steps: number of iterations.
        coefficients: the polynomials.

    Returns:
        Matrices (N, A, B) of `DTYPE`.
    """
    is_tall = stack.size(-2) > stack.size(-1)
    x = stack.to(_compute_dtype(stack.device.type))
    if is_tall:
        x = x.mT  # so that XXᵀ is the smaller of the two products
    x = x / torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True).clamp(min=_EPS)
    for a, b, c in POLYNOMIALS[coefficients](steps):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return (x.mT if is_tall else x).to(DTYPE)


def _compute_dtype(device: str) -> torch.dtype:
    """Return `DTYPE`, or float32 on CPUs without AMX: AVX2 took 20 times as long in bfloat16, AVX-512 2 to 4 times."""
    return torch.float32 if device == "cpu" and not torch.cpu._is_amx_tile_supported() else DTYPE
