"""Cross-entropy of a language model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from gpt2_lightning.model.fused_loss import fused_loss_and_gradients

IGNORED = -100
"""A target without loss."""
LARGEST_LOGITS = 2**26
"""Largest number of elements of the logits in memory at a time: 256 MiB in float32."""
LARGE_LOGITS = 2**22
"""Number of elements up to which logits are never split: 16 MiB in float32. From 32 MiB on, glibc returns the memory of
a tensor to the system, and new pages can take longer than the computation in them."""


def cross_entropy(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Negative log-likelihood of the targets, in nats per token, computed in float32.

    Args:
        logits: (B, T, V).
        targets: (B, T); -100 is ignored.
        reduction: `mean` over the targets that are not ignored, or `sum`.
    """
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction=reduction)


def chunked_cross_entropy(head: nn.Module, features: Tensor, targets: Tensor) -> Tensor:
    """Sum of cross-entropies, with at most `LARGEST_LOGITS` elements of logits in memory.

    With GPT-2's vocabulary the logits and their gradient would take more memory than all blocks together. Larger logits
    are therefore computed for a chunk of the tokens at a time, together with the gradients of the chunk. On CUDA chunks
    are those of `fused_loss`, unless the head has a bias or an adapter.

    Args:
        head: module that computes logits (…, V), with V as `out_features`.
        features: input of the head, (B, T, C).
        targets: (B, T); -100 is ignored.

    Returns:
        A scalar in float32, in nats. In chunks, only one backward pass is possible.
    """
    n_classes = int(head.out_features)  # type: ignore[arg-type]  # an int
    if features.is_cuda and _is_matrix(head):
        return _fused_cross_entropy(n_classes, head.weight, features, targets)  # type: ignore[arg-type]  # a tensor
    n_chunks = math.ceil(targets.numel() * n_classes / _largest_chunk(features, n_classes))
    if n_chunks <= 1:
        return cross_entropy(head(features), targets, reduction="sum")
    if not torch.is_grad_enabled():
        chunks = _chunks(features, targets, n_chunks)
        return torch.stack([_loss_in_place(head(x).float(), chunk_targets) for x, chunk_targets in chunks]).sum()
    trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
    compute = partial(_loss_and_gradients, head, targets, n_chunks)
    return _LossWithGradients.apply(compute, features, *trained)


def _is_matrix(head: nn.Module) -> bool:
    """Whether the head is a product with its weight, and nothing else: adapters are modules inside a layer."""
    return isinstance(head, nn.Linear) and head.bias is None and next(head.children(), None) is None


def _fused_cross_entropy(n_classes: int, weight: Tensor, features: Tensor, targets: Tensor) -> Tensor:
    compute = partial(fused_loss_and_gradients, n_classes, targets.flatten())
    features = features.flatten(0, 1)
    if not torch.is_grad_enabled():
        return compute(features.detach(), weight.detach())[0]
    return _LossWithGradients.apply(compute, features, weight)


class _LossWithGradients(torch.autograd.Function):
    """A loss that is computed together with the gradients of its inputs; backward only scales them.

    Inputs are a function that returns the loss and a tuple of gradients, and the tensors that are its arguments.
    """

    @staticmethod
    def forward(
        ctx: Any, compute: Callable[..., tuple[Tensor, tuple[Tensor | None, ...]]], features: Tensor, *trained: Tensor
    ) -> Tensor:
        loss, ctx.gradients = compute(features, *trained)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("a chunked loss goes backward once: its gradients are scaled in place")
        return None, *(None if gradient is None else gradient.mul_(scale) for gradient in gradients)


def _loss_and_gradients(
    head: nn.Module, targets: Tensor, n_chunks: int, features: Tensor, *trained: Tensor
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    """Sum of cross-entropies with its gradients; those of each chunk are computed in the memory of its logits."""
    losses, of_features = [], []
    of_trained = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in trained]
    for x, chunk_targets in _chunks(features, targets, n_chunks):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            logits = head(x)
        of_logits = logits.detach().float()  # shares memory in float32: a linear layer does not save its output
        losses.append(_loss_in_place(of_logits, chunk_targets))
        of_x, *found = torch.autograd.grad(logits, (x, *trained), of_logits.to(logits.dtype), allow_unused=True)
        of_features.append(of_x)
        del logits, of_logits  # before those of the next chunk are allocated
        for total, gradient in zip(of_trained, found, strict=True):
            if gradient is not None:  # an adapter may be inactive
                total += gradient
    gradients = (total.to(parameter.dtype) for total, parameter in zip(of_trained, trained, strict=True))
    return torch.stack(losses).sum(), (torch.cat(of_features, dim=1).view_as(features), *gradients)


def _chunks(features: Tensor, targets: Tensor, n_chunks: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Split into chunks of about equal size, features (1, n, C) and targets (1, n)."""
    flat = features.flatten(0, 1).unsqueeze(0), targets.flatten().unsqueeze(0)
    return zip(*(tensor.tensor_split(n_chunks, dim=1) for tensor in flat), strict=True)


def _largest_chunk(features: Tensor, n_classes: int) -> int:
    """Elements of the logits of a chunk. Each adds a V x C gradient to the head's, and should be larger than that."""
    if features.device.type != "cpu":
        return LARGEST_LOGITS
    return min(LARGEST_LOGITS, max(LARGE_LOGITS, 2 * n_classes * features.size(-1)))


@torch.no_grad()
def _loss_in_place(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum of cross-entropies; overwrites the logits with their gradient, softmax minus the one-hot targets.

    Args:
        logits: (1, n, V), float32.
        targets: (1, n).
    """
    counted = (targets != IGNORED)[..., None]
    chosen = torch.where(counted, targets[..., None], 0)
    of_chosen = logits.gather(-1, chosen)
    top = logits.amax(-1, keepdim=True)
    total = logits.sub_(top).exp_().sum(-1, keepdim=True)
    logits.div_(total.where(counted, math.inf)).scatter_add_(-1, chosen, -counted.float())
    return ((total.log() + top - of_chosen) * counted).sum()
