"""Comparison of the weights of two models."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gpt2_lightning.evaluation.parity.sides import TheirModel
from gpt2_lightning.huggingface.weights import dtype_name, to_huggingface
from gpt2_lightning.model import GPT2


@dataclass(frozen=True)
class TensorDifference:
    """A tensor whose values differ between both sides."""

    name: str
    """Name of the tensor in transformers."""
    difference: float
    """Maximum absolute difference."""
    count: int
    """Number of values that differ."""
    size: int
    is_rounding: bool
    """Whether one side equals the other, rounded to its dtype."""


@dataclass(frozen=True)
class Weights:
    """All tensors of two models with the same shapes."""

    count: int
    our_dtype: str
    their_dtype: str
    differing: tuple[TensorDifference, ...]

    @property
    def altered(self) -> tuple[TensorDifference, ...]:
        """Tensors with differences that rounding does not explain."""
        return tuple(tensor for tensor in self.differing if not tensor.is_rounding)


@torch.no_grad()
def compare_weights(ours: GPT2, theirs: TheirModel) -> Weights:
    """Compare the parameters of both models by their names in transformers."""
    our_weights = to_huggingface(ours)
    pairs = {name: (our_weights[name], tensor) for name, tensor in theirs.named_parameters()}
    found = (_difference(name, one, other) for name, (one, other) in pairs.items())
    return Weights(
        count=len(pairs),
        our_dtype=dtype_name(ours.wte.weight.dtype),
        their_dtype=dtype_name(theirs.dtype),
        differing=tuple(difference for difference in found if difference is not None),
    )


def _difference(name: str, one: Tensor, other: Tensor) -> TensorDifference | None:
    if one.dtype == other.dtype and torch.equal(one, other):
        return None
    gaps = (one.double() - other.double()).abs()
    count = int((gaps > 0).sum())
    if not count:
        return None
    rounded = torch.equal(one.to(other.dtype), other) or torch.equal(other.to(one.dtype), one)
    return TensorDifference(name, float(gaps.max()), count, gaps.numel(), rounded)
