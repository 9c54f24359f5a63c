"""Variants of training and decoding, by patches of this benchmark, since the product has no options for them."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import lightning as L
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader

_PATCHES: dict[str, tuple[str, Any]] = {
    "separate-loss": ("model.loss._is_matrix", lambda head: False),
    "small-loss-chunks": ("model.fused_loss.LARGEST_LOGITS", 2**26),
    "dense-masks": ("model.gpt2.needs_tensor", lambda weight, config: True),
    "no-read-ahead": ("data.sampling.base_datamodule.ReadAheadLoader", DataLoader),
    "saving-at-once": ("training.callbacks.checkpointing._saves_in_background", lambda device: False),
    "one-matrix": ("training.optimizers.muon._MOST_ELEMENTS", 1),
    "no-cuda-graph": ("generation.decoder._WORTH_CAPTURING", 2**62),
}
"""Names within `gpt2_lightning`, and what takes their place."""
_KERNELS: dict[str, SDPBackend] = {
    "cudnn-attention": SDPBackend.CUDNN_ATTENTION,
    "flash-attention": SDPBackend.FLASH_ATTENTION,
}
NAMES = [*_PATCHES, *_KERNELS]


def applied(variant: str | None) -> AbstractContextManager[object]:
    """Return a context manager in which a variant takes the place of the product's code; None for the product's."""
    if variant is None:
        return contextlib.nullcontext()
    if variant in _KERNELS:
        return sdpa_kernel(_KERNELS[variant])
    target, value = _PATCHES[variant]
    return mock.patch(f"gpt2_lightning.{target}", value)


class SigtermBroadcast(L.Callback):
    """What Lightning does before each micro-batch of several ranks: a broadcast, whose result the CPU reads."""

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        loop = trainer.fit_loop.epoch_loop
        type(loop)._broadcast_sigterm_tensor(loop)
