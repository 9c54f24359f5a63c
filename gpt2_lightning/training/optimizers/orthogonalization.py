"""Orthogonalization of stacked matrices by Newton-Schulz iterations, the core of Muon."""

from __future__ import annotations

import torch
from torch import Tensor

DTYPE = torch.bfloat16
"""Dtype of the iterations."""
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_EPS = 1e-7


def orthogonalize(stack: Tensor, steps: int) -> Tensor:
    """Return a factor close to U Vᵀ of each matrix U S Vᵀ, with singular values of about 0.7 to 1.2 in place of S.

    Every iteration applies the odd polynomial aX + b(XXᵀ)X + c(XXᵀ)²X, whose coefficients Jordan et al. 2024 ("Muon: An
    optimizer for hidden layers in neural networks") chose to raise small singular values fast. The coefficients, the
    dtype and the order of operations are those of `torch.optim.Muon`, for all matrices in one batched product.

    Args:
        stack: matrices (N, A, B).
        steps: number of iterations.

    Returns:
        Matrices (N, A, B) of `DTYPE`.
    """
    a, b, c = _COEFFICIENTS
    is_tall = stack.size(-2) > stack.size(-1)
    x = stack.to(DTYPE)
    if is_tall:
        x = x.mT  # so that XXᵀ is the smaller of the two products
    x = x / torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True).clamp(min=_EPS)
    for _ in range(steps):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if is_tall else x
