"""The loss of a language model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

IGNORED = -100
"""A target that carries no loss."""
LARGEST_LOGITS = 2**26
"""Elements of the logits that are held at once: 256 MiB in float32."""


def cross_entropy(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Negative log-likelihood of the targets, in nats per token, computed in float32.

    Args:
        logits: (B, T, V).
        targets: (B, T); positions that hold -100 do not count.
        reduction: `mean` over the tokens that count, or `sum`.
    """
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction=reduction)


def summed_loss(head: nn.Module, features: Tensor, targets: Tensor) -> Tensor:
    """The sum of the targets' cross-entropies, without ever holding more than `LARGEST_LOGITS` elements of logits.

    At GPT-2's vocabulary the logits and their gradient would take more memory than all blocks together. So where they
    are larger, they are computed for a part of the tokens at a time, each part with its gradients.

    Args:
        head: computes logits (…, V); it has V as `out_features`.
        features: what it reads, (B, T, C).
        targets: (B, T); positions that hold -100 do not count.

    Returns:
        A scalar in float32, in nats. Where there are several parts, it goes backward once.
    """
    n_parts = math.ceil(targets.numel() * head.out_features / LARGEST_LOGITS)  # type: ignore[operator]  # an int
    if n_parts <= 1:
        return cross_entropy(head(features), targets, reduction="sum")
    if not torch.is_grad_enabled():
        return torch.stack([_loss(head, *part) for part in _parts(features, targets, n_parts)]).sum()
    trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
    return _LossInParts.apply(head, targets, n_parts, features, *trained)


class _LossInParts(torch.autograd.Function):
    """Computes the gradients of each part when its logits are there, and lets these go; backward only scales them."""

    @staticmethod
    def forward(ctx: Any, head: nn.Module, targets: Tensor, n_parts: int, features: Tensor, *trained: Tensor) -> Tensor:
        losses, of_features = [], []
        of_trained = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in trained]
        for part, its_targets in _parts(features, targets, n_parts):
            with torch.enable_grad():
                part = part.detach().requires_grad_()
                loss = _loss(head, part, its_targets)
            of_part, *found = torch.autograd.grad(loss, (part, *trained), allow_unused=True)
            losses.append(loss.detach())
            of_features.append(of_part)
            for total, gradient in zip(of_trained, found, strict=True):
                if gradient is not None:  # an adapter may be out of use
                    total += gradient
        ctx.gradients = [
            torch.cat(of_features, dim=1).view_as(features),
            *(total.to(parameter.dtype) for total, parameter in zip(of_trained, trained, strict=True)),
        ]
        return torch.stack(losses).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("a loss in parts goes backward once: its gradients are scaled in place")
        return None, None, None, *(gradient.mul_(scale) for gradient in gradients)


def _parts(features: Tensor, targets: Tensor, n_parts: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Features (1, n, C) and targets (1, n) of about as many tokens each."""
    flat = features.flatten(0, 1).unsqueeze(0), targets.flatten().unsqueeze(0)
    return zip(*(tensor.tensor_split(n_parts, dim=1) for tensor in flat), strict=True)


def _loss(head: nn.Module, features: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(head(features), targets, reduction="sum")
