"""The reading of a token, compiled."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from gpt2_lightning.model.gpt2 import GPT2


@contextlib.contextmanager
def compiled(model: GPT2) -> Iterator[None]:
    """Let a network read one token of each text by a compiled step, which on CUDA is captured as a graph.

    The first token waits for the compiler. The cache takes room for the whole context, and attention looks at all of
    it, so that no shape changes from token to token. Where a network has a compiled step already, this does nothing.
    """
    if model.step is not None:
        yield
        return
    try:
        on_cuda = model.wte.weight.device.type == "cuda"
        model.step = torch.compile(model.through, mode="reduce-overhead" if on_cuda else None)
        yield
    finally:
        model.step = None
