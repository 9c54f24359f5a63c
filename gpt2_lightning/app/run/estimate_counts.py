"""What a run takes, as numbers: counted from shapes, or measured in a few steps."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from gpt2_lightning import memory
from gpt2_lightning.app.run.job import TrainingJob
from gpt2_lightning.app.run.settings import RunSettings
from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
from gpt2_lightning.errors import UserError
from gpt2_lightning.model.lora.freezing import count_trainable
from gpt2_lightning.model.size import training_work
from gpt2_lightning.training import precision
from gpt2_lightning.training.lightning_module import TrainingModule
from gpt2_lightning.training.performance.memory_estimate import Held, StepEstimate
from gpt2_lightning.training.performance.peak_flops import device_name, peak_flops
from gpt2_lightning.training.performance.probe import Probe
from gpt2_lightning.training.performance.sequence_lengths import max_length, mean_length
from gpt2_lightning.training.trainer import TrainerSpec

ASSUMED_MFU = 0.4
"""Share of a device's peak that training is taken to reach: about what GPT-2's sizes do on an A100, if compiled."""
_DEVICES = (1, 2, 4, 8)


@dataclass(frozen=True)
class Device:
    """What a process computes on."""

    name: str
    memory: int | None
    """Bytes that are free; None if unknown."""
    peak_flops: float | None
    """FLOP/s at most in the precision of the run; None if unknown."""


@dataclass(frozen=True)
class OnDevices:
    """Memory of each device, in bytes, where so many train together."""

    devices: int
    micro_batch_size: int
    """0 where the batch does not divide among them."""
    ddp: int
    fsdp: int


@dataclass(frozen=True)
class Figures:
    """What a run takes."""

    parameters: int
    trained: int
    flops_per_token: int
    """Of those that are read, padding with them."""
    steps: int
    batch_size: int
    micro_batch_size: int
    devices: int
    width: float
    """Tokens of a sample as it is read, with padding, on average."""
    longest: int
    """Tokens of the longest sample, on which memory is counted."""
    targets: int
    """Tokens that are learned from, in the whole run."""
    epochs: float
    held: Held
    activations: int
    """Bytes."""
    shardable: bool
    """Whether fsdp takes the run's optimizer and precision."""
    sharded: bool
    """Whether the run shares out what it holds."""
    by_devices: tuple[OnDevices, ...]
    precision: str
    device: Device

    @property
    def flops(self) -> float:
        """Of the whole run."""
        return self.steps * self.batch_size * self.width * self.flops_per_token

    @property
    def parts(self) -> int:
        """Micro-batches of a process in a step."""
        return self.batch_size // (self.micro_batch_size * self.devices)

    @property
    def memory(self) -> int:
        """Bytes of a device of this run."""
        here = next(each for each in self.by_devices if each.devices == self.devices)
        return here.fsdp if self.sharded else here.ddp

    @property
    def expected_seconds(self) -> float | None:
        """Of training, at `ASSUMED_MFU`; None where the device's peak is not known."""
        peak = self.device.peak_flops
        return None if peak is None else self.flops / (ASSUMED_MFU * peak * self.devices)


@dataclass(frozen=True)
class Measured:
    """What a few steps took."""

    seconds_a_step: float
    seconds: float
    """Of training, for the whole run."""
    tokens_per_second: float
    """That are learned from, on all devices together."""
    mfu: float | None
    """None where the device's peak is not known."""
    peak_memory: int | None
    """Bytes; None if unknown."""


def count(
    settings: RunSettings,
    job: TrainingJob,
    spec: TrainerSpec,
    max_steps: int,
    make_module: Callable[[], TrainingModule[Any, Any]],
) -> Figures:
    """Count what a run takes, and allocate nothing.

    Args:
        settings: say how a batch is divided, whatever the number of devices.
        job: what is trained, with the micro-batch of the run.
        spec: where.
        max_steps: for how long.
        make_module: makes the task.
    """
    data, devices = job.data, spec.processes()
    step = StepEstimate(make_module, data, spec)
    model, held = step.module.model, step.held
    widest, width = max_length(data.samples, job.block_size), mean_length(data.samples, data.micro_batch_size)
    masked = isinstance(data, TokenDataModule) and data.documents == "masked"
    activations = functools.cache(lambda rows: step.activations(rows, widest, masked))

    def on(n: int) -> OnDevices:
        try:
            rows = data.micro_batch_size if n == devices else settings.micro_batch_among(n, job.description.model)
        except UserError:
            return OnDevices(n, 0, 0, 0)
        sharded = held.together if n == 1 else math.ceil(held.together / n) + step.unsharded
        return OnDevices(n, rows, held.together + activations(rows), sharded + activations(rows))

    samples = max_steps * data.batch_size
    return Figures(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        trained=count_trainable(model),
        flops_per_token=training_work(model).per_token(round(width)),
        steps=max_steps,
        batch_size=data.batch_size,
        micro_batch_size=data.micro_batch_size,
        devices=devices,
        width=width,
        longest=widest,
        targets=round(samples * data.samples.targets_per_sample),
        epochs=samples / data.samples.per_epoch,
        held=held,
        activations=activations(data.micro_batch_size),
        shardable=spec.precision != "fp16" and step.module.optimizer_spec.supports_sharding,
        sharded=spec.strategy == "fsdp",
        by_devices=tuple(on(n) for n in sorted({*_DEVICES, devices})),
        precision=precision.choose(spec.precision, spec.device_type),
        device=_device(spec),
    )


def measured(figures: Figures, probe: Probe) -> Measured:
    """What the run takes, by what a few steps took."""
    seconds, peak = probe.seconds_of(figures.parts), figures.device.peak_flops
    return Measured(
        seconds_a_step=seconds,
        seconds=figures.steps * seconds,
        tokens_per_second=figures.targets / (figures.steps * seconds),
        mfu=None if peak is None else figures.flops / figures.steps / (seconds * peak * figures.devices),
        peak_memory=probe.peak_memory,
    )


def _device(spec: TrainerSpec) -> Device:
    device = torch.device(spec.device_type)
    peak = peak_flops(device, precision.choose(spec.precision, spec.device_type))
    return Device(device_name(device), memory.usable(device, spec.processes_here()), peak)
