"""Differences of the hidden states of two networks by layer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gpt2_lightning.evaluation.parity.sides import TheirModel
from gpt2_lightning.huggingface.verify import Comparison, compare
from gpt2_lightning.model import GPT2

LOGITS = "logits"


@dataclass(frozen=True)
class LayerDifference:
    """Maximum absolute difference of the hidden states after one layer."""

    place: str
    """Name of the layer: `embeddings`, `layer 1`, …, `final norm`, `logits`."""
    difference: float
    largest: float
    """Maximum absolute value of their hidden states."""


def our_forward(model: GPT2) -> Callable[[Tensor], Tensor]:
    return lambda ids: model(ids)


def their_forward(model: TheirModel) -> Callable[[Tensor], Tensor]:
    return lambda ids: model(ids, use_cache=False).logits


@torch.no_grad()
def layer_differences(ours: GPT2, theirs: TheirModel, ids: Tensor) -> list[LayerDifference]:
    """Compare the hidden states of both networks on ids (B, T), from the embeddings to the logits."""
    found = _states(ours, ours, our_forward(ours), ids)
    expected = _states(theirs, theirs.transformer, their_forward(theirs), ids)
    return [
        LayerDifference(place, largest_difference(one, other), float(other.abs().max()))
        for (place, one), other in zip(found.items(), expected.values(), strict=True)
    ]


def largest_difference(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).abs().max())


@torch.no_grad()
def logit_difference(ours: GPT2, theirs: TheirModel, ids: Tensor) -> Comparison:
    """Compare logits on ids (B, T), with the tolerance of the less precise of both dtypes."""
    one, other = our_forward(ours)(ids), their_forward(theirs)(ids)
    return compare(one, other) if _is_finer(other, one) else compare(other, one)


@torch.no_grad()
def loss_of(forward: Callable[[Tensor], Tensor], ids: Tensor) -> float:
    """Compute the cross-entropy of next-token prediction on ids (T,), T >= 2, in nats per token."""
    return float(F.cross_entropy(forward(ids[None, :-1])[0].float(), ids[1:]))


def _is_finer(one: Tensor, other: Tensor) -> bool:
    return torch.finfo(one.dtype).eps < torch.finfo(other.dtype).eps


def _states(network: nn.Module, body: Any, forward: Callable[[Tensor], Tensor], ids: Tensor) -> dict[str, Tensor]:
    """Return hidden states by layer name; the modules have the same names on both sides."""
    places = {"embeddings": body.drop}
    places |= {f"layer {i}": block for i, block in enumerate(body.h, start=1)}
    places["final norm"] = body.ln_f
    states: dict[str, Tensor] = {}
    with contextlib.ExitStack() as hooks:
        for place, module in places.items():
            hooks.enter_context(_recorded(module, place, states))
        states[LOGITS] = forward(ids)
    return states


@contextlib.contextmanager
def _recorded(module: nn.Module, place: str, states: dict[str, Tensor]) -> Iterator[None]:
    def record(_: nn.Module, __: object, output: Tensor | tuple[Tensor, ...]) -> None:
        states[place] = output if isinstance(output, Tensor) else output[0]

    handle = module.register_forward_hook(record)
    try:
        yield
    finally:
        handle.remove()
