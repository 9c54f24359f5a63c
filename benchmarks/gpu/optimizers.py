"""Measurement of the optimizer's step alone."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from benchmarks.gpu.rows import Row, peak_memory, timed
from benchmarks.gpu.scale import Scale
from benchmarks.gpu.variants import applied
from gpt2_lightning.model import GPT2
from gpt2_lightning.training.optimizers import OptimizerSpec


def step(scale: Scale, spec: OptimizerSpec, variant: str | None = None) -> Iterator[Row]:
    """Step with random gradients, for the parameters of GPT-2 124M in float32."""
    torch.manual_seed(0)
    with torch.device(scale.device):
        model = GPT2(scale.config("124M"))
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    with applied(variant):
        optimizer = spec.build(model)
        seconds = [_seconds(scale, optimizer) for _ in range(1 + scale.stretches)]
    row = timed(seconds[1:])
    row["first_seconds"] = seconds[0]
    yield row | peak_memory(scale)


def _seconds(scale: Scale, optimizer: torch.optim.Optimizer) -> float:
    """Return the mean seconds of a few steps."""
    scale.synchronize()
    began = time.perf_counter()
    for _ in range(scale.steps):
        optimizer.step()
    scale.synchronize()
    return (time.perf_counter() - began) / scale.steps
