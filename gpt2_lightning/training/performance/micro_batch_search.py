"""Search for the largest micro-batch that fits into memory."""

from __future__ import annotations

import bisect
import gc
import sys
from collections.abc import Callable
from typing import Any

import torch

from gpt2_lightning import memory
from gpt2_lightning.data.sampling.base_datamodule import SampleDataModule
from gpt2_lightning.errors import UserError
from gpt2_lightning.training import distributed
from gpt2_lightning.training.lightning_module import TrainingModule
from gpt2_lightning.training.performance.probe import probe_steps
from gpt2_lightning.training.performance.sequence_lengths import at_max_length
from gpt2_lightning.training.trainer import TrainerSpec

_STEPS = 2
"""Steps per trial: the first creates the optimizer's state, which the second has from its start."""
_HEADROOM = 0.1
"""Fraction of the memory reserved for variation between steps, where memory is extrapolated."""


def find_micro_batch(
    make_module: Callable[[], TrainingModule[Any, Any]],
    data: SampleDataModule,
    spec: TrainerSpec,
    share: int,
    block_size: int,
) -> int:
    """Find the largest micro-batch size whose steps fit into memory, on batches of the maximum sequence length.

    On a GPU, sizes are tried until memory runs out. A CPU process that exhausts main memory is killed, so on the CPU
    the two smallest sizes are measured; memory is linear in the number of samples, so that of others is extrapolated.

    Args:
        make_module: constructor of the LightningModule.
        data: data module of the run; its `micro_batch_size` is set to the result.
        spec: trainer settings of the run.
        share: samples per step of this process.
        block_size: upper limit of the sequence length in tokens.

    Returns:
        The micro-batch size, a divisor of `share`.

    Raises:
        UserError: if one sample does not fit, or the system does not report its free memory.
    """
    device = spec.build(max_steps=1, accumulate=1, callbacks=[], loggers=[]).strategy.root_device
    measured: dict[int, int] = {}
    limit = _limit(device) if device.type == "cpu" else None

    def fits(rows: int) -> bool:
        if limit is not None and len(measured) == 2:
            return all(distributed.all_gather(_forecast(measured, rows) <= limit))
        data.micro_batch_size = rows
        peak = _peak_of(lambda: probe_steps(make_module, data, spec, share // rows, _STEPS).peak_memory, device)
        if peak is not None:
            measured[rows] = peak
        return all(distributed.all_gather(peak is not None and (limit is None or peak <= limit)))

    with at_max_length(data, block_size):
        found = largest_that_fits(share, fits)
    if found is None:
        raise UserError(
            "micro_batch_size=auto: there is not enough memory for a single sample; use precision=bf16, or choose a "
            "smaller model or model.block_size"
        )
    data.micro_batch_size = found
    return found


def largest_that_fits(share: int, fits: Callable[[int], bool]) -> int | None:
    """Return the largest divisor of `share` that fits; None if no divisor does.

    `fits` must be monotonic: if a number fits, so do smaller ones. Divisors are at least doubled until one does not
    fit; then a bisection searches between the last two.
    """
    divisors = [number for number in range(1, share + 1) if share % number == 0]
    good, bad = -1, len(divisors)
    while good + 1 < bad:
        if bad < len(divisors):
            middle = (good + bad) // 2
        else:
            twice = bisect.bisect_left(divisors, 2 * divisors[good]) if good >= 0 else 0
            middle = min(twice, len(divisors) - 1)
        good, bad = (middle, bad) if fits(divisors[middle]) else (good, middle)
    return divisors[good] if good >= 0 else None


def _limit(device: torch.device) -> float:
    usable = memory.usable(device, distributed.local_world_size())
    if usable is None:
        raise UserError(
            "micro_batch_size=auto: this system does not tell how much memory is free; give a number, or null for "
            "what takes about 4 GiB"
        )
    return (1 - _HEADROOM) * usable


def _forecast(measured: dict[int, int], rows: int) -> float:
    (fewer, less), (more, most) = sorted(measured.items())
    return most + (rows - more) * max(0.0, (most - less) / (more - fewer))


def _peak_of(attempt: Callable[[], int | None], device: torch.device) -> int | None:
    """Return the peak memory of an attempt in bytes; None if memory ran out."""
    memory.reset_peak(device)
    found = None
    try:
        found = attempt() or 0
    except (MemoryError, RuntimeError) as error:
        if not memory.is_exhausted(error):
            raise
    gc.collect()  # modules have reference cycles
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if "torch._dynamo" in sys.modules:  # else nothing was compiled, and the import would take a second
        torch.compiler.reset()  # with code of two sizes, that of further sizes and of the run would be for any size
    return found
