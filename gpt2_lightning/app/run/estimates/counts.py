"""FLOPs, memory and time of a run: counted from tensor shapes, or measured in a few steps."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from gpt2_lightning import memory
from gpt2_lightning.app.run.estimates.advice import Advice, advice
from gpt2_lightning.app.run.job import TrainingJob
from gpt2_lightning.app.run.settings import RunSettings
from gpt2_lightning.data.sampling.corpus_datamodule import TokenDataModule
from gpt2_lightning.errors import UserError
from gpt2_lightning.model.lora.freezing import count_trainable
from gpt2_lightning.model.size import training_work
from gpt2_lightning.training.lightning_module import TrainingModule
from gpt2_lightning.training.performance.memory_estimate import Held, StepEstimate
from gpt2_lightning.training.performance.micro_batch_estimate import rows_that_fit
from gpt2_lightning.training.performance.peak_flops import device_name, peak_flops
from gpt2_lightning.training.performance.probe import Probe
from gpt2_lightning.training.performance.sequence_lengths import max_length, mean_length
from gpt2_lightning.training.trainer import TrainerSpec

ASSUMED_MFU = 0.4
"""Assumed model FLOPs utilization of compiled training, 0 to 1. Measured elsewhere in bf16, with padded vocabularies:
nanochat's model of 12 layers 0.41, llm.c's GPT-2 of 1,558M 0.49, modded-nanogpt's of 124M 0.32 to 0.40."""
ASSUMED_MFU_UNCOMPILED = 0.25
"""The same without compilation, an assumption: by nanoGPT's README, torch.compile takes its steps from 250 ms to
135 ms."""
_DEVICES = (1, 2, 4, 8)


@dataclass(frozen=True)
class Device:
    """Device of a process."""

    name: str
    memory: int | None
    """Free memory in bytes; None if unknown."""
    peak_flops: float | None
    """Peak FLOP/s in the precision of the run; None if unknown."""


@dataclass(frozen=True)
class OnDevices:
    """Memory of each device, in bytes, for a number of devices."""

    devices: int
    micro_batch_size: int
    """Samples per forward pass; 0 if the batch does not divide among the devices."""
    ddp: int
    fsdp: int


@dataclass(frozen=True)
class Figures:
    """Work, memory and time of a run, counted from shapes."""

    parameters: int
    trained: int
    flops_per_token: int
    """FLOPs of a training step per input token, including padding."""
    steps: int
    batch_size: int
    micro_batch_size: int
    devices: int
    width: float
    """Mean number of input tokens per sample, including padding."""
    longest: int
    """Tokens of the longest sample, which determines the memory."""
    targets: int
    """Total number of target tokens in the run."""
    epochs: float
    held: Held
    activations: int
    """Memory of the activations of one micro-batch, in bytes."""
    shardable: bool
    """Whether FSDP supports the run's optimizer and precision."""
    sharded: bool
    """Whether the run shards its weights, gradients and optimizer state (FSDP)."""
    by_devices: tuple[OnDevices, ...]
    precision: str
    compiled: bool
    """Whether the run compiles its blocks."""
    device: Device
    faster: tuple[Advice, ...] = ()
    """Settings that may make the run faster, and why."""

    @property
    def flops(self) -> float:
        """Total FLOPs of the run."""
        return self.steps * self.batch_size * self.width * self.flops_per_token

    @property
    def parts(self) -> int:
        """Micro-batches per process and optimizer step."""
        return self.batch_size // (self.micro_batch_size * self.devices)

    @property
    def memory(self) -> int:
        """Memory of each device in this run, in bytes."""
        here = next(each for each in self.by_devices if each.devices == self.devices)
        return here.fsdp if self.sharded else here.ddp

    @property
    def assumed_mfu(self) -> float:
        """Assumed model FLOPs utilization, 0 to 1."""
        return ASSUMED_MFU if self.compiled else ASSUMED_MFU_UNCOMPILED

    @property
    def expected_seconds(self) -> float | None:
        """Training time in seconds at `assumed_mfu`; None if the device's peak is unknown."""
        peak = self.device.peak_flops
        return None if peak is None else self.flops / (self.assumed_mfu * peak * self.devices)


@dataclass(frozen=True)
class Measured:
    """Speed and memory of a run, measured in a few steps."""

    seconds_a_step: float
    seconds: float
    """Training time of the whole run, without validation."""
    tokens_per_second: float
    """Target tokens per second, over all devices."""
    mfu: float | None
    """Model FLOPs utilization, 0 to 1; None if the device's peak is unknown."""
    peak_memory: int | None
    """Peak memory in bytes; None if unknown."""


def count(
    settings: RunSettings,
    job: TrainingJob,
    spec: TrainerSpec,
    max_steps: int,
    make_module: Callable[[], TrainingModule[Any, Any]],
) -> Figures:
    """Count the work and memory of a run from shapes, without allocating its tensors.

    Args:
        settings: settings of the run, which determine the micro-batch size for any number of devices.
        job: the training job, with the micro-batch size of the run.
        spec: settings of the trainer.
        max_steps: number of optimizer steps.
        make_module: makes the LightningModule.
    """
    data, devices = job.data, spec.processes()
    step = StepEstimate(make_module, data, spec)
    model, held, device = step.module.model, step.held, _device(spec)
    (widest, masked), width = longest_batch(job), mean_length(data.samples, data.micro_batch_size)
    activations = functools.cache(lambda rows: step.activations(rows, widest, masked))
    fills_memory = settings.micro_batch_size is None and spec.on_cuda and device.memory is not None

    def on(n: int) -> OnDevices:
        ddp, fsdp = step.held_by_each(n, sharded=False), step.held_by_each(n, sharded=True)
        try:
            rows = data.micro_batch_size if n == devices else settings.micro_batch_among(n, job.description.model)
        except UserError:
            return OnDevices(n, 0, 0, 0)
        if fills_memory and n != devices:
            base, accumulated = (fsdp, held.gradients) if spec.is_sharded and n > 1 else (ddp, 0)
            rows = rows_that_fit(data.batch_size // n, lambda m: base + activations(m), device.memory or 0, accumulated)
        accumulates = data.batch_size > rows * n  # FSDP shards gradients after the last micro-batch
        sharded = fsdp + (held.gradients if accumulates and n > 1 else 0)
        return OnDevices(n, rows, ddp + activations(rows), sharded + activations(rows))

    def used(rows: int) -> int:
        return step.held_by_each(devices, spec.is_sharded) + activations(rows)

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
        sharded=spec.is_sharded,
        by_devices=tuple(on(n) for n in sorted({*_DEVICES, devices})),
        precision=spec.resolved_precision,
        compiled=bool(settings.compile),
        device=device,
        faster=tuple(advice(settings, job, spec, model, used, device.memory)),
    )


def longest_batch(job: TrainingJob) -> tuple[int, bool]:
    """Return the tokens of the longest sample, and whether attention is limited to documents."""
    data = job.data
    masked = isinstance(data, TokenDataModule) and data.documents == "masked"
    return max_length(data.samples, job.block_size), masked


def measured(figures: Figures, probe: Probe) -> Measured:
    """Extrapolate a few measured steps to the whole run."""
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
    peak = peak_flops(device, spec.resolved_precision)
    return Device(device_name(device), memory.usable(device, spec.processes_here()), peak)
