"""A model's parameters as figures: each tensor, what it has changed, and what all together cost."""

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
"""Of a value that trains, in float32; AdamW keeps two moments."""
_PART = 2**18
"""Values that are widened to float64 at once: what fits into a cache."""


@dataclass(frozen=True)
class TensorStatistics:
    """How a tensor's values lie, computed in float64."""

    mean: float
    std: float
    """Root of the mean squared distance from the mean."""
    norm: float
    """Root of the sum of squares."""
    not_finite: int
    """Values that are NaN or infinite; where there are any, the other figures are no numbers either."""


@dataclass(frozen=True)
class Change:
    """How a tensor differs from the one of the same name in another model, computed in float64.

    Where either holds NaN or infinity, the first three are mostly no numbers.
    """

    relative: float
    """Norm of the difference over the norm of the other; infinite where that is 0."""
    largest: float
    """Largest absolute difference of two values."""
    cosine: float
    """Of the angle between the two; NaN where one of them is 0."""
    other_not_finite: int
    """Values of the other that are NaN or infinite."""


@dataclass(frozen=True)
class TensorSummary:
    """One tensor of a model."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    kind: str
    """`trained`, `frozen`, or `buffer` for a table that is no parameter."""
    statistics: TensorStatistics | None
    """None on the meta device, where there are no values."""
    change: Change | None = None
    """None where there is nothing to compare with."""

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.count * self.dtype.itemsize


@dataclass(frozen=True)
class Cost:
    """What a model takes, in bytes and in FLOPs."""

    weights: int
    """Bytes, as they are stored."""
    gradients: int
    """Bytes in float32, of what trains."""
    optimizer: int
    """Bytes of AdamW's two moments in float32, of what trains."""
    training_flops: int
    """For each token, at full context; see `model.size.flops_per_token`."""
    forward_flops: int
    """The third of them that one token takes to read."""


def summarize_tensors(model: nn.Module) -> list[TensorSummary]:
    """Every parameter and stored buffer, in the order of computation; a tensor with two names comes under its first."""
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
    figures: Sequence[TensorSummary], model: nn.Module, other: nn.Module
) -> tuple[list[TensorSummary], list[str]]:
    """How a model differs from another, tensor by tensor.

    Args:
        figures: of the model.
        model: what was measured.
        other: what it is compared with.

    Returns:
        The figures with their changes, and a line for each tensor that has no partner of its shape.
    """
    ours, theirs = _tensors(model), _tensors(other)
    faults = [f"{name}: only in the other" for name in theirs.keys() - ours.keys()]
    compared = []
    for one in figures:
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
    """Parameters that are known under another name too: that name, and the one under which they are counted."""
    first: dict[int, str] = {}
    every = model.named_parameters(remove_duplicate=False)
    return {name: found for name, tensor in every if (found := first.setdefault(id(tensor), name)) != name}


def cost(figures: Sequence[TensorSummary], config: GPT2Config) -> Cost:
    """Memory of the tensors, without activations, and FLOPs of the architecture."""
    trained = sum(one.count for one in figures if one.kind == "trained")
    flops = flops_per_token(config)
    return Cost(
        weights=sum(one.bytes for one in figures),
        gradients=_GRADIENT_BYTES * trained,
        optimizer=_ADAMW_BYTES * trained,
        training_flops=flops,
        forward_flops=flops // 3,
    )


def kv_cache_bytes_per_token(config: GPT2Config, dtype: torch.dtype) -> int:
    """Memory that generation holds for each token of the context: a key and a value of width C in every layer."""
    return 2 * config.n_layer * config.n_embd * dtype.itemsize


def meta_model(config: GPT2Config) -> GPT2:
    """A model that has shapes and no values, on the meta device."""
    with on_meta_device():
        return GPT2(config)


def statistics(tensor: Tensor) -> TensorStatistics:
    """Measure one tensor; see `TensorStatistics`."""
    total = squares = 0.0
    for part in _parts(tensor):
        total += float(part.sum())
        squares += float(part @ part)
    mean = total / tensor.numel()
    variance = squares / tensor.numel() - mean**2  # float64 leaves what float32 values can tell apart
    return TensorStatistics(mean, math.sqrt(max(variance, 0.0)), math.sqrt(squares), _not_finite(tensor, squares))


def change(tensor: Tensor, other: Tensor) -> Change:
    """Measure how one tensor differs from another of its shape; see `Change`."""
    squares = ours = theirs = product = 0.0
    largest = torch.zeros((), dtype=torch.float64)
    for one, two in zip(_parts(tensor), _parts(other), strict=True):
        difference = one - two
        squares += float(difference @ difference)
        largest = largest.maximum(difference.abs().max())  # which keeps NaN
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
    """Parameters once each, and stored buffers, in the order of the model's state."""
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: named[name] for name in model.state_dict() if name in named}


def _kind(tensor: Tensor) -> str:
    if not isinstance(tensor, nn.Parameter):
        return "buffer"
    return "trained" if tensor.requires_grad else "frozen"


def _parts(tensor: Tensor) -> Iterator[Tensor]:
    """All values in float64, some at a time."""
    return (part.double() for part in tensor.detach().flatten().split(_PART))


def _not_finite(tensor: Tensor, squares: float) -> int:
    """How many values are NaN or infinite; `squares`, their sum of squares, is finite where none is."""
    return 0 if math.isfinite(squares) else int((~tensor.isfinite()).sum())


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
