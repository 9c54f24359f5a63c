"""A compiled decoding step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from gpt2_lightning.model.gpt2 import GPT2, AttentionContext
from gpt2_lightning.model.inference.kv_cache import KVCache


@contextlib.contextmanager
def compiled(model: GPT2) -> Iterator[None]:
    """Context manager in which a network decodes one token of each text by compiled code, on CUDA as a CUDA graph.

    The first token waits for the compiler. The cache is allocated for the whole context and attention covers all of it,
    so that shapes do not change between tokens. Nested contexts share the outer one's step.
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
