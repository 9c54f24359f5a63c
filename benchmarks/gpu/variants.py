"""Variants of training and decoding, by patches of this benchmark, where the product has no option for them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal
from unittest import mock

import lightning as L
from torch.nn.attention import SDPBackend, sdpa_kernel

from gpt2_lightning.model import fused_loss, gpt2, loss

Variant = Literal["separate-loss", "small-loss-chunks", "cudnn-attention", "flash-attention", "dense-masks"]
_PATCHES: dict[Variant, Callable[[], AbstractContextManager[object]]] = {
    "separate-loss": lambda: mock.patch.object(loss, "_is_matrix", return_value=False),
    "small-loss-chunks": lambda: mock.patch.object(fused_loss, "LARGEST_LOGITS", 2**26),
    "cudnn-attention": lambda: sdpa_kernel(SDPBackend.CUDNN_ATTENTION),
    "flash-attention": lambda: sdpa_kernel(SDPBackend.FLASH_ATTENTION),
    "dense-masks": lambda: mock.patch.object(gpt2, "needs_tensor", return_value=True),
}


def applied(variant: Variant | None) -> AbstractContextManager[object]:
    """Return a context manager in which a variant takes the place of the product's code; None for the product's."""
    return contextlib.nullcontext() if variant is None else _PATCHES[variant]()


class SigtermBroadcast(L.Callback):
    """What Lightning does before each micro-batch of several ranks: a broadcast, whose result the CPU reads."""

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        loop = trainer.fit_loop.epoch_loop
        type(loop)._broadcast_sigterm_tensor(loop)
