"""Sizes of the measurements: those of a GPU, and tiny ones with which a CPU executes the same code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from gpt2_lightning.model import GPT2Config

Size = Literal["124M", "1558M"]


@dataclass(frozen=True)
class Scale:
    """Device, models, and number and length of the measurements."""

    device: Literal["cuda", "cpu"]
    models: dict[Size, GPT2Config]
    rows: dict[Size, int]
    """Largest micro-batch of each model."""
    step_rows: int
    """Rows of a step with accumulation: 0.5 million tokens, as for GPT-3 Small (Brown et al. 2020, table 2.1)."""
    warm_up: int
    """Steps after the first one that are not measured."""
    stretches: int
    """Measured stretches of steps; results are their median and spread."""
    seconds: float
    """Length of a stretch, of at most `steps` steps."""
    steps: int
    prompt_tokens: int
    new_tokens: int
    batches: tuple[int, ...]
    """Batch sizes of decoding."""

    def config(self, size: Size, padded: bool = True) -> GPT2Config:
        """Architecture of a size; `padded` rounds the rows of the vocabulary up to a multiple of 64."""
        return replace(self.models[size], pad_vocab_to_multiple_of=64 if padded else 1)

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()


_TINY = GPT2Config(block_size=32, n_layer=2, n_head=2, n_embd=16)
SCALES = {
    "cuda": Scale(
        device="cuda",
        models={"124M": GPT2Config(), "1558M": GPT2Config(n_layer=48, n_head=25, n_embd=1600)},
        rows={"124M": 64, "1558M": 16},
        step_rows=512,
        warm_up=4,
        stretches=5,
        seconds=1.0,
        steps=10,
        prompt_tokens=32,
        new_tokens=128,
        batches=(1, 8, 64),
    ),
    "cpu": Scale(
        device="cpu",
        models={"124M": _TINY, "1558M": _TINY},
        rows={"124M": 4, "1558M": 2},
        step_rows=8,
        warm_up=1,
        stretches=2,
        seconds=1.0,
        steps=2,
        prompt_tokens=3,
        new_tokens=4,
        batches=(1, 2),
    ),
}
