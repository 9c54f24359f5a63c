"""Modules on the meta device, which have shapes and no values."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from gpt2_lightning.model.config import GPT2Config
from gpt2_lightning.model.gpt2 import GPT2

_FEW_BLOCKS = 1000
"""Number of blocks that are constructed within a second."""


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


def gpt2_without_weights(config: GPT2Config, names: Collection[str]) -> GPT2:
    """Construct a model on the meta device, to load tensors into.

    Args:
        config: configuration, perhaps of a file that is damaged or hostile.
        names: names of the tensors. With fewer tensors than blocks the model is not constructed, which would take long.

    Raises:
        ValueError: if the tensors cannot be those of the configuration, or torch cannot express their sizes.
    """
    if config.n_layer > max(len(names), _FEW_BLOCKS):
        raise ValueError(f"n_layer: {config.n_layer:,} blocks do not fit to {len(names):,} tensors")
    try:
        with on_meta_device():
            return GPT2(config)
    except (RuntimeError, TypeError, OverflowError) as error:
        raise ValueError(f"its sizes are too large: {str(error).splitlines()[0]}") from None
