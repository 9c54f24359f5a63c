"""A count of the kernels that a GPU would launch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_CHUNKS, _CHUNK = 320, 65536
"""Chunks of one launch of a kernel over a list of tensors, and elements of a chunk (ATen's MultiTensorApply.cuh)."""


def launches(compute: Callable[[], Any]) -> int:
    """Return a lower bound of the kernels launched: one for each operation that is no view, more for long lists."""
    with _Count() as count:
        compute()
    return count.kernels


class _Count(TorchDispatchMode):
    kernels = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        is_kernel = function.namespace == "aten" and not function.is_view and "empty" not in function.__name__
        if is_kernel and "unsafe_view" not in function.__name__:
            self.kernels += _lists(args[0]) if args and isinstance(args[0], list) else 1
        return result


def _lists(tensors: list[Tensor]) -> int:
    chunks = sum(-(-tensor.numel() // _CHUNK) for tensor in tensors)
    return -(-chunks // _CHUNKS)
