"""The measured points, and the cost that theory predicts for them relative to the first point of each series."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from gpt2_lightning.model import GPT2Config
from gpt2_lightning.model.size import count_parameters, flops_per_token

BYTES = 4
"""Of a float32."""
DECODED = GPT2Config(vocab_size=4096, block_size=2048, n_layer=8, n_head=8, n_embd=512)
"""The model that generates."""


@dataclass(frozen=True)
class Step:
    """A training step, by the Trainer with AdamW in float32."""

    context: int = 256
    width: int = 256
    depth: int = 4
    batch: int = 4
    vocabulary: int = 4096

    @property
    def config(self) -> GPT2Config:
        return GPT2Config(self.vocabulary, self.context, self.depth, max(1, self.width // 64), self.width)

    @property
    def work(self) -> float:
        """FLOPs: about 6 for each weight and token, and those of attention; see `flops_per_token`."""
        return self.batch * self.context * flops_per_token(self.config)


def steps_of(series: str) -> list[Step]:
    """Return the steps of a series, which differ in one size."""
    base = Step(batch=1) if series == "context" else Step()
    return [dataclasses.replace(base, **{series: value}) for value in STEPS[series]]


STEPS: dict[str, tuple[int, ...]] = {
    "context": (256, 512, 1024, 2048, 4096),
    "width": (128, 256, 512, 1024),
    "depth": (2, 4, 8, 16),
    "batch": (1, 4, 16, 64),
    "vocabulary": (256, 1024, 4096, 16384, 65536),
}
"""Sizes of the training steps, by what grows."""
LENGTHS = (128, 256, 512, 1024, 2048)
"""Generated tokens."""
MEGABYTES = (1, 4, 16, 64)
"""Sizes of prepared corpora."""
SERIES: dict[str, tuple[int, ...]] = {**STEPS, "generation": LENGTHS, "prepare": MEGABYTES}


def bytes_read(length: int, config: GPT2Config = DECODED) -> float:
    """Return the bytes that generating a text reads: for each token all weights, and the keys and values before it."""
    of_cache = 2 * config.n_layer * config.n_embd * BYTES
    return length * count_parameters(config) * BYTES + of_cache * length * (length - 1) / 2


def theory(series: str) -> list[float]:
    """Return the work of each point of a series.

    FLOPs of a training step, bytes that a generation reads, megabytes of a corpus.
    """
    if series in STEPS:
        return [step.work for step in steps_of(series)]
    return [bytes_read(length) for length in LENGTHS] if series == "generation" else [*map(float, MEGABYTES)]


def scaled(work: Sequence[float], seconds: Sequence[float]) -> list[float]:
    """Return the time that the work of each point takes at the highest rate of a series, that of its best point."""
    rate = max(one / time for one, time in zip(work, seconds, strict=True))
    return [one / rate for one in work]
