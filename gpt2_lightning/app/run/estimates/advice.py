"""Settings with which a planned run would be faster, as far as they are known before it starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import torch

from gpt2_lightning.app.run.job import TrainingJob
from gpt2_lightning.app.run.settings import RunSettings
from gpt2_lightning.model import GPT2
from gpt2_lightning.model.classifier import Classifier
from gpt2_lightning.training.performance.compilation import language_model
from gpt2_lightning.training.performance.micro_batch_estimate import samples_in
from gpt2_lightning.training.precision import multiplies_in_bfloat16
from gpt2_lightning.training.trainer import TrainerSpec

_MULTIPLE = 64
"""Multiple of the vocabulary's rows at which GPUs multiply fast: 128 bytes in half precision."""
Advice = tuple[str, str]
"""What to type, and why."""


def advice(
    settings: RunSettings,
    job: TrainingJob,
    spec: TrainerSpec,
    network: GPT2 | Classifier,
    bytes_for: Callable[[int], int],
    free: int | None,
) -> Iterator[Advice]:
    """Yield the settings that may make a run faster, and why; those that do not apply are omitted.

    Args:
        settings: settings of the run.
        job: the training job, with the micro-batch size of the run.
        spec: settings of the trainer.
        network: the network, on any device.
        bytes_for: memory of a device in a step, in bytes, by the samples per micro-batch.
        free: memory of a device in bytes; None if unknown.
    """
    config = language_model(network).config
    if not config.has_torch_attention:
        yield "model.kernels=fused", f"model.kernels={config.kernels} is for reading"
    if spec.resolved_precision in ("fp32", "tf32") and multiplies_in_bfloat16(spec.device_type):
        device = "CPU" if spec.device_type == "cpu" else "GPU"
        likely = "may be faster than" if device == "CPU" else "is several times as fast as"
        yield "precision=bf16", f"this {device} has instructions for bfloat16, which {likely} {spec.resolved_precision}"
    if spec.on_cuda:
        yield from _on_gpus(settings, job, spec, network, bytes_for, free)
    elif spec.device_type == "cpu":
        yield from _on_cpu(spec)


def _on_gpus(
    settings: RunSettings,
    job: TrainingJob,
    spec: TrainerSpec,
    network: GPT2 | Classifier,
    bytes_for: Callable[[int], int],
    free: int | None,
) -> Iterator[Advice]:
    if not settings.compile:
        yield "compile=true", "compiled blocks are typically faster on GPUs, after a minute of compilation"
    if spec.strategy == "single" and (count := torch.cuda.device_count()) > 1:
        yield "trainer=ddp", f"the run uses one of the {count} GPUs of this machine"
    config = job.description.model
    if isinstance(network, GPT2) and config.vocab_rows % _MULTIPLE and _makes_model(job):
        why = f"a head of {config.vocab_rows:,} rows is slower than one of a multiple of {_MULTIPLE}"
        yield f"model.pad_vocab_to_multiple_of={_MULTIPLE}", why
    share, rows = job.data.batch_size // spec.processes(), job.data.micro_batch_size
    fitting = samples_in(free or 0, share, bytes_for(share), bytes_for(2 * share))
    if rows < min(fitting, share):
        yield "micro_batch_size=null", f"micro-batches of {rows:,}, and memory for about {fitting:,} samples"
    elif fitting >= 2 * share:
        why = f"a step has {share:,} samples for each GPU, and memory for about {fitting:,}; it changes the training"
        yield f"batch_size={2 * job.data.batch_size}", f"or more: {why}"


def _on_cpu(spec: TrainerSpec) -> Iterator[Advice]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads, most = spec.threads or torch.get_num_threads(), cores // spec.processes_here()
    if spec.strategy == "single" and threads < most:
        yield f"trainer.threads={most}", f"the run uses {threads} of {cores} cores"


def _makes_model(job: TrainingJob) -> bool:
    """Whether the run initializes its model, so that `model` applies."""
    return job.description.run_config.get("init_from", "scratch") == "scratch"
