"""The reading of a token, compiled."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from gpt2_lightning.model.gpt2 import GPT2, AttentionContext
from gpt2_lightning.model.inference.kv_cache import KVCache


@contextlib.contextmanager
def compiled(model: GPT2) -> Iterator[None]:
    """Let a network read one token of each text by a compiled step, which on CUDA is captured as a graph.

    The first token waits for the compiler. The cache takes room for the whole context, and attention looks at all of
    it, so that no shape changes from token to token. Where a network has a compiled step already, this does nothing.
    """
    if model.decode_step is not None:
        yield
        return
    try:
        on_cuda = model.wte.weight.device.type == "cuda"
        model.decode_step = torch.compile(model.forward_hidden, mode="reduce-overhead" if on_cuda else None)
        yield
    finally:
        model.decode_step = None


def decode_compiled(model: GPT2, ids: Tensor, cache: KVCache) -> Tensor:
    """`GPT2.features` of one token of each text, ids (B, 1), by the compiled step: (B, 1, C)."""
    assert model.decode_step is not None, "see `compiled`"
    positions, attn_mask = cache.positions_and_mask(1, static=True)
    rotate, layers = getattr(model.wpe, "rotate", None), cache.layers(positions, static=True)
    features = model.decode_step(ids, AttentionContext(positions, attn_mask, rotate, layers))
    cache.advance(1)
    return features
