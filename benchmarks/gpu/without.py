"""Measures for speed, each switched off by a patch of this benchmark, since the product has no such options."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Literal
from unittest import mock

import lightning as L
import torch

from gpt2_lightning.model import fused_loss, loss

Measure = Literal["fused-loss", "loss-chunks", "cudnn"]


class SigtermBroadcast(L.Callback):
    """What Lightning does before each micro-batch of several ranks: a broadcast, whose result the CPU reads."""

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        loop = trainer.fit_loop.epoch_loop
        type(loop)._broadcast_sigterm_tensor(loop)


@contextlib.contextmanager
def _without_cudnn() -> Iterator[None]:
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(True)


_OFF: dict[Measure, Callable[[], AbstractContextManager[object]]] = {
    "fused-loss": lambda: mock.patch.object(loss, "_is_matrix", return_value=False),
    "loss-chunks": lambda: mock.patch.object(fused_loss, "LARGEST_LOGITS", 2**26),
    "cudnn": _without_cudnn,
}


def without(measure: Measure | None) -> AbstractContextManager[object]:
    """Return a context manager in which a measure is switched off."""
    return contextlib.nullcontext() if measure is None else _OFF[measure]()
