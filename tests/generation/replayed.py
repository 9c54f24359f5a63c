"""A CUDA graph on a CPU: what was recorded once runs again, on the same tensors, whatever the code would do by now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

T = TypeVar("T")
READS = {"_local_scalar_dense", "nonzero", "item", "equal", "is_nonzero", "masked_select", "unique"}
"""Operations for which the host waits."""


class Replayed(Generic[T]):
    """A function whose second call is recorded, and whose later calls run the recorded operations without its code.

    The stand-in for `CUDAGraphFunction`: numbers of Python are those of the recording, and results are overwritten.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        self._function, self.calls, self._recording, self._result = function, 0, Recording(), None

    def __call__(self) -> T:
        self.calls += 1
        if self.calls == 1:
            return self._function()
        if self.calls == 2:
            with self._recording:
                self._result = self._function()
        else:
            self._recording.replay()
        return self._result


class Recording(TorchDispatchMode):
    """Operations with the tensors that they read and wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        refuse_reads(func, args)
        result = func(*args, **kwargs)
        self.operations.append((func, args, kwargs, result))
        return result

    def replay(self) -> None:
        for func, args, kwargs, result in self.operations:
            again = func(*args, **kwargs)
            if func._schema.is_mutable:
                continue  # it has written to its arguments
            storages = {tensor.untyped_storage()._cdata for tensor in tensors((args, kwargs))}
            for old, new in zip(tensors(result), tensors(again), strict=True):
                if old.untyped_storage()._cdata not in storages:  # else it is a view of an argument
                    old.copy_(new)


def refuse_reads(func: Any, args: Any) -> None:
    """Fail at an operation for which the host would wait for a GPU."""
    name = func._schema.name.removeprefix("aten::")
    has_bool_index = name in ("index", "index_put", "index_put_") and any(
        tensor.dtype == torch.bool for tensor in tensors(args[1])
    )
    assert name not in READS, f"{name} reads a value on the host"
    assert not has_bool_index, f"{name} by a mask reads the number of its elements on the host"


def tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
