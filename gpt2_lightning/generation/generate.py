"""The loop: read the prompt once, then a token at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gpt2_lightning.generation.sampling import Sampling, choose
from gpt2_lightning.model import GPT2, KVCache


@torch.inference_mode()
def generate(model: GPT2, prompt: Tensor, sampling: Sampling, end_of_text: int | None = None) -> Iterator[int]:
    """Yield the ids that follow a prompt, one by one, as they are chosen.

    Past `block_size` the context is a sliding window: each step reads the last `block_size` tokens again, because
    their positions have moved.

    Args:
        model: in evaluation mode.
        prompt: ids of shape (T,), T >= 1, on the model's device.
        sampling: the settings.
        end_of_text: an id that ends the text; it is not yielded.
    """
    block_size = model.config.block_size
    generator = torch.Generator(prompt.device).manual_seed(sampling.seed)
    ids = prompt.unsqueeze(0)  # (1, T): everything so far
    cache = KVCache(model.config, 1, prompt.device, model.wte.weight.dtype)
    unread = ids[:, -block_size:]  # what the cache lacks
    for _ in range(sampling.max_new_tokens):
        if cache.length + unread.size(1) > block_size:
            cache.clear()
            unread = ids[:, -block_size:]
        logits = model.lm_head(model.features(unread, cache)[:, -1])  # (1, V)
        unread = choose(logits, sampling, generator).unsqueeze(1)  # (1, 1)
        ids = torch.cat((ids, unread), dim=1)
        token = int(unread)
        if token == end_of_text:
            return
        yield token
