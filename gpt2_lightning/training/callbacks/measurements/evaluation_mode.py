"""Evaluation of a model in the middle of its training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

from gpt2_lightning.model import GPT2


def language_model_of(module: nn.Module) -> GPT2:
    """Return the language model inside a LightningModule or a classifier."""
    return next(part for part in module.modules() if isinstance(part, GPT2))


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Context manager of evaluation mode, that is without dropout; restores the mode of every submodule."""
    modes = {part: part.training for part in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
