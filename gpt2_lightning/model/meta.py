"""Modules on the meta device, which have shapes and no values."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _SkipInit(TorchFunctionMode):
    """Skips the functions of `torch.nn.init`.

    Tensors on the meta device have no values to initialize, and torch would import its compiler for it, which takes a
    second.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == torch.nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@contextlib.contextmanager
def on_meta_device() -> Iterator[None]:
    """Context manager that constructs modules on the meta device, where they take neither memory nor time."""
    with torch.device("meta"), _SkipInit():
        yield
