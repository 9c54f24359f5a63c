"""Rows of results: figures of one measurement, with the median and spread of repeated times."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TypedDict

import torch

from benchmarks.gpu.scale import Scale
from gpt2_lightning import memory
from gpt2_lightning.training.performance import peak_flops
from gpt2_lightning.training.precision import Precision


class Row(TypedDict, total=False):
    """A row of the table; figures that were not measured are left out."""

    name: str
    """What was measured; the part's name, with a suffix if the part has several rows."""
    tokens_per_second: float
    spread: float
    """Difference of the longest and the shortest of the measured times, as a fraction of the median."""
    mfu: float
    """FLOP/s by `flops_per_token` as a fraction of the device's peak (Chowdhery et al. 2022, appendix B)."""
    milliseconds: float
    """Median time of a step: of training, of the optimizer, or of one token of all texts."""
    first_seconds: float
    """Time of the first step, with compilation, or to the first token."""
    peak_gb: float
    """Peak memory of the process's tensors."""
    remark: str
    """Other results."""
    text: str
    """A longer result, for a file of its own."""
    error: str
    """Why the measurement failed."""


def timed(seconds: Sequence[float], tokens: int | None = None) -> Row:
    """Return median and spread of the times of a step, and the throughput.

    Args:
        seconds: measured times of a step.
        tokens: tokens of a step; None if steps have none.
    """
    median = statistics.median(seconds)
    row = Row(milliseconds=1e3 * median, spread=(max(seconds) - min(seconds)) / median)
    if tokens is not None:
        row["tokens_per_second"] = tokens / median
    return row


def peak_memory(scale: Scale) -> Row:
    """Return the peak memory of this process."""
    peak = memory.peak(torch.device(scale.device))
    return Row() if peak is None else Row(peak_gb=peak / 1e9)


def mfu(scale: Scale, flops_per_second: float, precision: Precision) -> Row:
    """Return the model FLOPs utilization, if the peak of the device is known."""
    peak = peak_flops.peak_flops(torch.device(scale.device), precision)
    return Row() if peak is None else Row(mfu=flops_per_second / peak)
