"""Statistics of the tensors of a model, their change from another model, and the cost of all."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.model.meta import on_meta_device
from gpt2_lightning.model.size import flops_per_token

_GRADIENT_BYTES, _ADAMW_BYTES = 4, 8
"""Bytes for each trained value in float32; AdamW keeps two moments."""
_PART = 2**18
"""Number of values that are converted to float64 at once; fits into a cache."""


@dataclass(frozen=True)
class TensorStatistics:
    """Statistics of the values of a tensor, computed in float64."""

    mean: float
    std: float
    """Root of the mean squared distance from the mean."""
    norm: float
    """Root of the sum of squares."""
    not_finite: int
    """Number of values that are NaN or infinite. If any are, the other statistics are not finite."""


@dataclass(frozen=True)
class Change:
    """Difference of a tensor from that of the same name in another model, computed in float64.

    If either holds NaN or infinity, the first three may not be finite.
    """

    relative: float
    """Norm of the difference divided by the norm of the other tensor; infinite if that is 0."""
    largest: float
    """Largest absolute difference."""
    cosine: float
    """Cosine similarity; NaN if either tensor is 0."""
    other_not_finite: int
    """Number of values of the other tensor that are NaN or infinite."""


@dataclass(frozen=True)
class TensorSummary:
    """One tensor of a model."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    kind: str
    """`trained`, `frozen`, or `buffer`."""
    statistics: TensorStatistics | None
    """None on the meta device."""
    change: Change | None = None
    """Change from the compared model, if any."""

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.count * self.dtype.itemsize


@dataclass(frozen=True)
class Cost:
    """Memory and compute of a model."""

    weights: int
    """Bytes in the stored dtypes."""
    gradients: int
    """Bytes in float32, for trained parameters."""
    optimizer: int
    """Bytes of the two moments of AdamW in float32, for trained parameters."""
    training_flops: int
    """FLOPs per token at full context; see `model.size.flops_per_token`."""
    forward_flops: int
    """FLOPs of the forward pass per token, a third of those of training."""


def summarize_tensors(model: nn.Module) -> list[TensorSummary]:
    """Summarize every parameter and persistent buffer, in module order; a shared tensor has its first name."""
    return [
        TensorSummary(
            name=name,
            shape=tuple(tensor.shape),
            dtype=tensor.dtype,
            kind=_kind(tensor),
            statistics=None if tensor.is_meta else statistics(tensor),
        )
        for name, tensor in _tensors(model).items()
    ]


def compare(
    tensors: Sequence[TensorSummary], model: nn.Module, other: nn.Module
) -> tuple[list[TensorSummary], list[str]]:
    """Compare a model with another, tensor by tensor.

    Args:
        tensors: summaries of the model.
        model: the summarized model.
        other: the model to compare with.

    Returns:
        The summaries with their changes, and a line for each tensor without a counterpart of the same name and shape.
    """
    ours, theirs = _tensors(model), _tensors(other)
    faults = [f"{name}: only in the other" for name in theirs.keys() - ours.keys()]
    compared = []
    for one in tensors:
        partner = theirs.get(one.name)
        if partner is None:
            faults.append(f"{one.name}: not in the other")
        elif partner.shape != one.shape:
            faults.append(f"{one.name}: {_shape(one.shape)} here, {_shape(tuple(partner.shape))} in the other")
        else:
            one = dataclasses.replace(one, change=change(ours[one.name], partner))
        compared.append(one)
    return compared, sorted(faults)


def second_names(model: nn.Module) -> dict[str, str]:
    """Further names of shared parameters, mapped to the name under which they are counted."""
    first: dict[int, str] = {}
    every = model.named_parameters(remove_duplicate=False)
    return {name: found for name, tensor in every if (found := first.setdefault(id(tensor), name)) != name}


def cost(tensors: Sequence[TensorSummary], config: GPT2Config) -> Cost:
    """Compute memory, without activations, and FLOPs."""
    trained = sum(one.count for one in tensors if one.kind == "trained")
    flops = flops_per_token(config)
    return Cost(
        weights=sum(one.bytes for one in tensors),
        gradients=_GRADIENT_BYTES * trained,
        optimizer=_ADAMW_BYTES * trained,
        training_flops=flops,
        forward_flops=flops // 3,
    )


def kv_cache_bytes_per_token(config: GPT2Config, dtype: torch.dtype) -> int:
    """Bytes of the KV cache per token: a key and a value of width C in every layer."""
    return 2 * config.n_layer * config.n_embd * dtype.itemsize


def meta_model(config: GPT2Config) -> GPT2:
    """Make a model on the meta device."""
    with on_meta_device():
        return GPT2(config)


def statistics(tensor: Tensor) -> TensorStatistics:
    """Compute the statistics of one tensor."""
    total = squares = 0.0
    for part in _parts(tensor):
        total += float(part.sum())
        squares += float(part @ part)
    mean = total / tensor.numel()
    variance = squares / tensor.numel() - mean**2  # float64 keeps the precision of float32 values
    return TensorStatistics(mean, math.sqrt(max(variance, 0.0)), math.sqrt(squares), _not_finite(tensor, squares))


def change(tensor: Tensor, other: Tensor) -> Change:
    """Compute the change of a tensor from another of its shape."""
    squares = ours = theirs = product = 0.0
    largest = torch.zeros((), dtype=torch.float64)
    for one, two in zip(_parts(tensor), _parts(other), strict=True):
        difference = one - two
        squares += float(difference @ difference)
        largest = largest.maximum(difference.abs().max())  # propagates NaN
        ours += float(one @ one)
        theirs += float(two @ two)
        product += float(one @ two)
    norms = math.sqrt(ours) * math.sqrt(theirs)
    return Change(
        relative=math.sqrt(squares / theirs) if theirs else (math.inf if squares else 0.0),
        largest=float(largest),
        cosine=product / norms if norms else math.nan,
        other_not_finite=_not_finite(other, theirs),
    )


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters, shared ones once, and persistent buffers, in the order of the state dict."""
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: named[name] for name in model.state_dict() if name in named}


def _kind(tensor: Tensor) -> str:
    if not isinstance(tensor, nn.Parameter):
        return "buffer"
    return "trained" if tensor.requires_grad else "frozen"


def _parts(tensor: Tensor) -> Iterator[Tensor]:
    """Yield the values in float64, in parts."""
    return (part.double() for part in tensor.detach().flatten().split(_PART))


def _not_finite(tensor: Tensor, squares: float) -> int:
    """Count NaN and infinite values; `squares`, the sum of squares, is finite if there are none."""
    return 0 if math.isfinite(squares) else int((~tensor.isfinite()).sum())


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
