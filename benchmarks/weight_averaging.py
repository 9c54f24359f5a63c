"""Time of averaging the weights after a step, beside that of the step, in float32 on a CPU.

    python -m benchmarks.weight_averaging

`char` trains on 12 x 64 tokens, 124M on 1 x 256. A step is a forward pass, a backward pass, clipping and AdamW; the
average is that of `callbacks=ema`. Both alternate in one process, and medians are compared.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.results import report
from gpt2_lightning.model import GPT2, GPT2Config, cross_entropy
from gpt2_lightning.training.callbacks import EMAWeightAveraging
from gpt2_lightning.training.optimizers import AdamW
from gpt2_lightning.training.weight_average import WeightAverage

# configuration, batch size, context, repetitions
SIZES = {
    "char": (GPT2Config(96, 64, 4, 4, 128), 12, 64, 100),
    "124M": (GPT2Config(), 1, 256, 5),
}


def main() -> None:
    figures = {}
    for name, (config, batch, context, times) in SIZES.items():
        torch.manual_seed(0)
        model = GPT2(config)
        step, average = _step(model, batch, context), _average(model)
        turns = [(_seconds(step), _seconds(average)) for _ in range(times + 1)][1:]
        figures[f"{name}: milliseconds of a step"] = round(1e3 * statistics.median(turn[0] for turn in turns), 3)
        figures[f"{name}: milliseconds of the average"] = round(1e3 * statistics.median(turn[1] for turn in turns), 3)
        figures[f"{name}: average over step"] = round(statistics.median(turn[1] / turn[0] for turn in turns), 4)
    report("weight_averaging", figures)


def _step(model: GPT2, batch: int, context: int) -> Callable[[], None]:
    optimizer = AdamW(lr=1e-4).build(model)
    ids = torch.randint(model.config.vocab_size, (batch, context + 1))

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(model(ids[:, :-1]), ids[:, 1:]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def _average(model: nn.Module) -> Callable[[], None]:
    average, callback = WeightAverage(model, EMAWeightAveraging.method), EMAWeightAveraging()
    return lambda: average.add(callback.update(0, 0, average.updates))


def _seconds(function: Callable[[], None]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
