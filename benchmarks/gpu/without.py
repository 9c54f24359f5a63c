"""Measures for speed, each switched off by a patch of this benchmark, since the product has no such options."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Literal
from unittest import mock

import torch

from gpt2_lightning.model import loss

Measure = Literal["loss-chunks", "cudnn"]


@contextlib.contextmanager
def _without_cudnn_attention() -> Iterator[None]:
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(True)


_OFF: dict[Measure, Callable[[], AbstractContextManager[object]]] = {
    "loss-chunks": lambda: mock.patch.object(loss, "LARGEST_LOGITS", 2**26),
    "cudnn": _without_cudnn_attention,
}


def without(measure: Measure | None) -> AbstractContextManager[object]:
    """Return a context manager in which a measure is switched off."""
    return contextlib.nullcontext() if measure is None else _OFF[measure]()
