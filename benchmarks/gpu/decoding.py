"""Measurement of decoding, token by token."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import torch

from benchmarks.gpu.rows import Row, peak_memory, timed
from benchmarks.gpu.scale import Scale
from benchmarks.gpu.variants import applied
from gpt2_lightning.generation import Decoder, Sampling
from gpt2_lightning.model import GPT2
from gpt2_lightning.model.inference.compiled import compiled


def decode(scale: Scale, compile_step: bool = False, variant: str | None = None) -> Iterator[Row]:
    """Sample continuations of random prompts, in bfloat16, for each batch size of the scale.

    The capture of a CUDA graph is part of each text's time, as it is for a user.

    Args:
        scale: the scale.
        compile_step: whether the step of one token is compiled.
        variant: a variant of the product's code, see `variants`.
    """
    torch.manual_seed(0)
    device = torch.device(scale.device)
    with device:
        model = GPT2(scale.config("124M", padded=False)).to(torch.bfloat16).eval()
    sampling = Sampling(max_new_tokens=scale.new_tokens)
    with applied(variant), compiled(model) if compile_step else contextlib.nullcontext():
        for batch_size in scale.batches:
            prompts = torch.randint(model.config.vocab_size, (batch_size, scale.prompt_tokens), device=device)
            _times(scale, Decoder(model, list(prompts), sampling))  # compiles, and selects kernels
            times = [_times(scale, Decoder(model, list(prompts), sampling)) for _ in range(scale.stretches)]
            row = timed([seconds for _, seconds in times], batch_size)
            row["first_seconds"] = min(first for first, _ in times)
            row["name"] = f"batch {batch_size}"
            yield row | peak_memory(scale)


def _times(scale: Scale, decoder: Decoder) -> tuple[float, float]:
    """Return the seconds to the first token, and from one token to the next."""
    scale.synchronize()
    began = time.perf_counter()
    steps = iter(decoder)
    next(steps)
    first = time.perf_counter()
    for _ in steps:
        pass
    return first - began, (time.perf_counter() - first) / (scale.new_tokens - 1)
