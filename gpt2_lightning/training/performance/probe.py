"""Time and memory of a few real steps, by the Trainer and on batches of the run; the trained model is discarded."""

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
from gpt2_lightning.training.callbacks.averaging import EMAWeightAveraging
from gpt2_lightning.training.lightning_module import TrainingModule
from gpt2_lightning.training.trainer import TrainerSpec


@dataclass(frozen=True)
class Probe:
    """Time and memory of steps on this rank."""

    seconds_to_add: float
    """Seconds per micro-batch that only accumulates gradients; 0 if a step has one micro-batch."""
    seconds_to_step: float
    """Seconds of the last micro-batch of a step, including communication between ranks and the optimizer step."""
    peak_memory: int | None
    """Peak memory in bytes, see `memory.peak`; None if unknown."""

    def seconds_of(self, parts: int) -> float:
        """Return the seconds of a step with `parts` micro-batches."""
        return (parts - 1) * self.seconds_to_add + self.seconds_to_step


def probe_steps(
    make_module: Callable[[], TrainingModule[Any, Any]],
    data: SampleDataModule,
    spec: TrainerSpec,
    parts: int,
    steps: int,
) -> Probe:
    """Train for some steps without validation, logging or checkpoints. The first step is not timed.

    Args:
        make_module: constructor of the LightningModule, which is discarded afterwards.
        data: data module of the run, with its micro-batch size.
        spec: trainer settings of the run.
        parts: micro-batches of this process per step; at most two are run.
        steps: number of steps, at least 2.

    Raises:
        RuntimeError: if memory runs out, see `memory.is_exhausted`.
    """
    clock, module = _Clock(), make_module()
    callbacks = [EMAWeightAveraging(), clock] if module.averages_weights else [clock]
    trainer = spec.build(max_steps=steps, accumulate=min(parts, 2), callbacks=callbacks, loggers=[])
    trainer.limit_val_batches = 0
    try:
        trainer.fit(module, datamodule=data)
    except SystemExit:  # raised by Lightning after Ctrl-C
        raise KeyboardInterrupt from None
    finally:
        data.trainer = None
    return clock.probe()


class _Clock(L.Callback):
    """Measure the time between the ends of successive micro-batches, and the peak memory."""

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
