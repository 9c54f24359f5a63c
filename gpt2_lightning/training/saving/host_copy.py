"""Copies of tensors in the memory of the host, which training does not change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def to_host(tensor: Tensor) -> Tensor:
    """Copy a tensor to the host. From a GPU, to pinned memory and without waiting; see `wait_for_copies`.

    Pinned memory is copied to several times as fast. torch reuses it for the next copies, and rounds the size of a
    tensor up to a power of two.
    """
    copied = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
    return copied.copy_(tensor.detach(), non_blocking=True)


def wait_for_copies() -> None:
    """Wait until the copies of `to_host` are complete."""
    if torch.cuda.is_initialized():
        torch.cuda.current_stream().synchronize()


def snapshot(content: Any) -> Any:
    """Copy nested containers with tensors, such as a checkpoint, to the host.

    Tensors that share their memory, such as tied weights, share that of their copy. Pinned tensors are the copies that
    `fsdp.gather` has made, and are not copied again.
    """
    copies: dict[Any, Tensor] = {}

    def copied(tensor: Tensor) -> Tensor:
        if tensor.is_pinned():
            return tensor
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if place not in copies:
            copies[place] = to_host(tensor)
        return copies[place]

    result = map_tensors(content, copied)
    wait_for_copies()
    return result


def map_tensors(content: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Copy nested dicts, lists and tuples, with the result of a function in place of each tensor."""
    if isinstance(content, Tensor):
        return function(content)
    if isinstance(content, dict):
        return {key: map_tensors(value, function) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)([map_tensors(value, function) for value in content])
    return content
