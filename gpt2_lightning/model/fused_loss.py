"""Cross-entropy of a linear head in few passes over the logits, for GPUs.

Memory bandwidth bounds the loss of a large vocabulary on a GPU. Separate operations in float32 move about 50 bytes for
each logit. Compiled, the loss reads the logits twice and writes their gradient once, in their own precision.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

LARGEST_LOGITS = 2**28
"""Largest number of elements of a chunk's logits: 512 MiB in bfloat16. Each chunk reads and writes the head's gradient,
V x C in float32, and should be larger than that."""
_EAGER_LOGITS = 2**24
"""Number of elements at a time where the kernel is not compiled, which makes several copies in float32."""

log = logging.getLogger(__name__)


def fused_loss_and_gradients(
    n_classes: int, targets: Tensor, features: Tensor, weight: Tensor
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    """Sum of the cross-entropies of `features @ weight.T`, and its gradients, in chunks of at most `LARGEST_LOGITS`.

    Products are computed in the dtype of autocast, else in that of the features; the rest in float32.

    Args:
        n_classes: number of classes V. Further rows of the weight are padding, without probability and gradient.
        targets: (N,); -100 is ignored.
        features: (N, C).
        weight: (V or more, C).

    Returns:
        A scalar in float32, in nats, and the gradients of features and weight; None where none is required.
    """
    device = features.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype
    narrow = weight.to(dtype)
    of_features: list[Tensor] = []
    of_weight = torch.zeros_like(weight, dtype=torch.float32) if weight.requires_grad else None
    losses = []
    rows = max(1, LARGEST_LOGITS // len(weight))
    for x, chunk_targets in zip(features.split(rows), targets.split(rows), strict=True):
        x = x.to(dtype)
        logits = x @ narrow.t()
        losses.append(_kernel(logits, chunk_targets, n_classes).sum())
        gradient = logits  # which the kernel wrote over them
        if features.requires_grad:
            of_features.append((gradient @ narrow).to(features.dtype))
        if of_weight is not None:
            _add_product(of_weight, gradient.t(), x)
        del logits, gradient  # before those of the next chunk are allocated
    gradients = (
        torch.cat(of_features) if of_features else None,
        None if of_weight is None else of_weight.to(weight.dtype),
    )
    return torch.stack(losses).sum(), gradients


def loss_in_place(logits: Tensor, targets: Tensor, n_classes: int) -> Tensor:
    """Cross-entropies of rows; overwrites the logits with the gradient of their sum, softmax minus the one-hot targets.

    The code that torch.compile fuses: as it is written here, it makes several copies of the logits in float32.

    Args:
        logits: (n, V or more).
        targets: (n,); -100 is ignored.
        n_classes: V. The columns after it have probability 0.

    Returns:
        (n,), float32, 0 where the target is ignored.
    """
    columns = torch.arange(logits.size(1), device=logits.device)
    x = logits.float().masked_fill(columns >= n_classes, float("-inf"))
    top = x.amax(1, keepdim=True)  # in this form, inductor computes maximum and sum in one pass
    exponentials = (x - top).exp()
    total = exponentials.sum(1, keepdim=True)
    targets = targets.unsqueeze(1)
    is_ignored = targets < 0
    of_target = x.masked_fill(columns != targets, 0.0).sum(1, keepdim=True)
    losses = (total.log() + top - of_target).masked_fill(is_ignored, 0.0)
    logits.copy_((exponentials / total - (columns == targets).float()).masked_fill(is_ignored, 0.0))
    return losses.squeeze(1)


def _in_slices(logits: Tensor, targets: Tensor, n_classes: int) -> Tensor:
    rows = max(1, _EAGER_LOGITS // logits.size(1))
    slices = zip(logits.split(rows), targets.split(rows), strict=True)
    return torch.cat([loss_in_place(*each, n_classes) for each in slices])


class _Kernel:
    """`loss_in_place`, compiled at the first call, once for any number of rows; not compiled if that fails."""

    def __init__(self) -> None:
        self._call: Callable[[Tensor, Tensor, int], Tensor] | None = None

    def __call__(self, logits: Tensor, targets: Tensor, n_classes: int) -> Tensor:
        import torch._dynamo  # takes more than a second, which only runs on a GPU pay

        if self._call is None:
            self._call = torch.compile(loss_in_place)
        for tensor in (logits, targets):
            torch._dynamo.maybe_mark_dynamic(tensor, 0)
        try:
            return self._call(logits, targets, n_classes)
        except torch._dynamo.exc.TorchDynamoException as error:
            cause = str(getattr(error, "inner_exception", error)).strip().partition("\n")[0]
            log.warning("the loss is not compiled, which makes it slower: %s", cause)
            self._call = _in_slices
            return self._call(logits, targets, n_classes)


_kernel = _Kernel()


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add `a @ b` to a float32 matrix, without rounding the product to the dtype of the factors where possible."""
    if a.is_cuda and a.dtype != total.dtype and torch.version.hip is None:
        torch.addmm(total, a, b, out_dtype=total.dtype, out=total)
    else:
        total += a @ b
