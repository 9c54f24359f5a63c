"""A few real steps, to see what they take: by the Trainer of the run, on batches of the run, and then forgotten."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch

from gpt2_lightning import memory
from gpt2_lightning.data.sampling.base_datamodule import SampleDataModule
from gpt2_lightning.training.lightning_module import TrainingModule
from gpt2_lightning.training.trainer import TrainerSpec


@dataclass(frozen=True)
class Probe:
    """What steps took, in this process."""

    seconds_to_add: float
    """For a micro-batch whose gradients are added to those before; 0 where a step has one alone."""
    seconds_to_step: float
    """For the last one, with the optimizer and, among several processes, with what they exchange."""
    peak_memory: int | None
    """Bytes, see `memory.peak`; None if unknown."""

    def seconds_of(self, parts: int) -> float:
        """A step of so many micro-batches."""
        return (parts - 1) * self.seconds_to_add + self.seconds_to_step


def probe_steps(
    make_module: Callable[[], TrainingModule[Any, Any]],
    data: SampleDataModule,
    spec: TrainerSpec,
    parts: int,
    steps: int,
) -> Probe:
    """Train for some steps, without validating, logging or saving. The first is not timed.

    Args:
        make_module: makes the task, which is not needed afterwards.
        data: of the run, with its micro-batch.
        spec: of the run.
        parts: micro-batches of this process in a step; of more than two, two are tried.
        steps: 2 or more.

    Raises:
        RuntimeError: if memory runs out, see `memory.is_exhausted`.
    """
    clock = _Clock()
    trainer = spec.build(max_steps=steps, accumulate=min(parts, 2), callbacks=[clock], loggers=[])
    trainer.limit_val_batches = 0
    try:
        trainer.fit(make_module(), datamodule=data)
    except SystemExit:  # so Lightning ends after a Ctrl-C
        raise KeyboardInterrupt from None
    finally:
        data.trainer = None
    return clock.probe()


class _Clock(L.Callback):
    """Measures the time from the end of a micro-batch to the end of the next, and the peak of memory."""

    def __init__(self) -> None:
        self._ends: list[tuple[float, bool]] = []
        self._step = 0
        self._peak: int | None = None

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        device = trainer.strategy.root_device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self._ends.append((time.perf_counter(), trainer.global_step != self._step))
        self._step = trainer.global_step
        self._peak = memory.peak(device)

    def probe(self) -> Probe:
        seconds: dict[bool, list[float]] = {True: [], False: []}
        first_step = next(number for number, (_, stepped) in enumerate(self._ends) if stepped)
        for (before, _), (after, stepped) in itertools.pairwise(self._ends[first_step:]):
            seconds[stepped].append(after - before)
        return Probe(
            seconds_to_add=statistics.median(seconds[False] or [0.0]),
            seconds_to_step=statistics.median(seconds[True]),
            peak_memory=self._peak,
        )
