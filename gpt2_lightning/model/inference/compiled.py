"""One token of each text as a function of tensors whose shapes do not change, and its compilation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from gpt2_lightning.model.gpt2 import GPT2, AttentionContext
from gpt2_lightning.model.inference.kv_cache import KVCache
from gpt2_lightning.model.kernels.cudnn import without_cudnn


@contextlib.contextmanager
def compiled(model: GPT2) -> Iterator[None]:
    """Context manager in which `decode_static` runs compiled code.

    The first token waits for the compiler. Nested contexts share the outer one's code.
    """
    if model.decode_step is not None:
        yield
        return
    try:
        model.decode_step = torch.compile(model.forward_hidden)
        yield
    finally:
        model.decode_step = None


def decode_static(model: GPT2, ids: Tensor, positions: Tensor, cache: KVCache) -> Tensor:
    """Logits after one more token of each text, by operations that do not depend on how long the texts are.

    Attention covers the whole cache, under a mask. `cache.lengths` is neither read nor updated: `cache.advance(1)`
    must follow each call.

    Args:
        model: in evaluation mode.
        ids: token ids, (B,), of all texts of the cache.
        positions: cached tokens of each text, (B,) int64.
        cache: receives the keys and values at these positions.

    Returns:
        Logits of shape (B, V).
    """
    positions = positions.unsqueeze(1)  # (B, 1)
    keys = torch.arange(cache.capacity, device=ids.device)  # (S,)
    attn_mask = (keys <= positions)[:, None, None]  # (B, 1, 1, S)
    layers = cache.layers(positions, cache.capacity)
    context = AttentionContext(positions, attn_mask, getattr(model.wpe, "rotate", None), layers)
    forward = model.decode_step or model.forward_hidden
    with without_cudnn():
        features = forward(ids.unsqueeze(1), context)  # (B, 1, C)
    return model.lm_head(features[:, -1])
