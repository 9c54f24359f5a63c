"""The largest micro-batch that fits into memory, found by trying."""

from __future__ import annotations

import bisect
import gc
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
"""The first makes the optimizer's state, the second has it from its beginning."""
_HEADROOM = 0.1
"""Share of the memory that is left to what differs from step to step, where it is forecast."""


def find_micro_batch(
    make_module: Callable[[], TrainingModule[Any, Any]],
    data: SampleDataModule,
    spec: TrainerSpec,
    share: int,
    block_size: int,
) -> int:
    """The largest divisor of the share with which steps fit into memory, on batches as wide as they may come.

    On a GPU sizes are tried until memory runs out. A system that runs out of main memory kills the process, so on the
    CPU the two smallest are measured; memory grows evenly with the samples, so the others are forecast.

    Args:
        make_module: makes the task.
        data: what it is trained on; its micro-batch is set to what was found.
        spec: the trainer of the run.
        share: samples of a step that this process has.
        block_size: the longest sample in tokens.

    Raises:
        UserError: if not even one sample fits, or the system does not tell what is free.
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
    """The largest divisor of a number for which something holds that holds for all smaller ones; None if for none.

    Divisors are tried that are twice as large at least, until one does not fit, and then by halves those between.
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
    """Bytes that an attempt took; None if memory ran out."""
    memory.reset_peak(device)
    found = None
    try:
        found = attempt() or 0
    except (MemoryError, RuntimeError) as error:
        if not memory.is_exhausted(error):
            raise
    gc.collect()  # modules refer to each other in circles
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return found
