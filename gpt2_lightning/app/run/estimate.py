"""Micro-batch size, memory and time of a run, determined before it starts."""

from __future__ import annotations

import logging
from typing import Any

import hydra.utils
from rich import get_console

from gpt2_lightning import memory
from gpt2_lightning.app.config import build
from gpt2_lightning.app.output.sections import show
from gpt2_lightning.app.run.estimates.counts import count, longest_batch, measured
from gpt2_lightning.app.run.estimates.report import sections
from gpt2_lightning.app.run.job import TrainingJob
from gpt2_lightning.app.run.settings import RunSettings
from gpt2_lightning.training import distributed
from gpt2_lightning.training.callbacks.averaging import WeightAveraging
from gpt2_lightning.training.lightning_module import TrainingModule
from gpt2_lightning.training.performance.compilation import compile_blocks, recompute_activations
from gpt2_lightning.training.performance.memory_estimate import StepEstimate
from gpt2_lightning.training.performance.micro_batch_estimate import rows_that_fit
from gpt2_lightning.training.performance.micro_batch_search import find_micro_batch
from gpt2_lightning.training.performance.probe import probe_steps
from gpt2_lightning.training.trainer import TrainerSpec

log = logging.getLogger(__name__)

_TRIED_STEPS = 4


def make_module(settings: RunSettings, job: TrainingJob) -> TrainingModule[Any, Any]:
    """Make the LightningModule of a run, with metrics, activation checkpointing and compiled blocks."""
    task = _uncompiled(settings, job)
    for name, node in settings.metrics.items():
        if node is not None:
            task.metrics[name] = build.make(node, num_classes=task.num_classes)
    compile_blocks(task.model, settings.compile)
    return task


def search_micro_batch(settings: RunSettings, job: TrainingJob, spec: TrainerSpec) -> None:
    """Set the micro-batch size of the job's data to the largest that fits into memory, found by trial steps.

    Raises:
        UserError: if a micro-batch of one sample does not fit.
    """
    share = job.data.batch_size // spec.processes()
    found = find_micro_batch(lambda: make_module(settings, job), job.data, spec, share, job.block_size)
    log.info("tried:  micro-batches of %s are the largest that fit, of a share of %s", f"{found:,}", f"{share:,}")


def fill_memory(settings: RunSettings, job: TrainingJob, spec: TrainerSpec, resumed: dict[str, Any] | None) -> None:
    """Set the micro-batch size of the job's data on GPUs to the largest that fits, unless it is configured.

    It is estimated from the shapes of a step and the free memory of the GPUs, of which the smallest counts.

    A resumed run keeps its size, with which its steps have the same rounding.

    Args:
        settings: settings of the run.
        job: the training job.
        spec: settings of the trainer.
        resumed: configuration of the run that is resumed; None for a new run.
    """
    if settings.micro_batch_size is not None or not spec.on_cuda:
        return
    share, before = job.data.batch_size // spec.processes(), (resumed or {}).get("micro_batch_size")
    if isinstance(before, int) and share % before == 0:
        job.data.micro_batch_size = before
        return
    step = StepEstimate(lambda: _uncompiled(settings, job), job.data, spec)
    width, masked = longest_batch(job)
    shards = spec.processes_here() if spec.strategy == "hsdp" else spec.processes()
    held = step.held_by_each(shards, spec.is_sharded)
    accumulated = step.held.gradients if spec.is_sharded and shards > 1 else 0
    free = min(distributed.all_gather(memory.usable(step.root_device) or 0))
    job.data.micro_batch_size = rows_that_fit(
        share, lambda rows: held + step.activations(rows, width, masked), free, accumulated
    )


def batch_sizes(settings: RunSettings, job: TrainingJob, spec: TrainerSpec) -> dict[str, int | None]:
    """Return the resolved batch settings, for the run's saved configuration."""
    depends_on_memory = settings.micro_batch_size == "auto" or spec.on_cuda
    found = {"micro_batch_size": job.data.micro_batch_size} if depends_on_memory else {}
    return {"batch_size": job.data.batch_size, "batch_tokens": None, **found}


def show_estimate(settings: RunSettings, job: TrainingJob, spec: TrainerSpec, max_steps: int) -> None:
    """Print the estimated memory and time of a run; with `plan=probe`, also measured in a few steps."""
    figures = count(settings, job, spec, max_steps, lambda: _uncompiled(settings, job))
    found = None
    if settings.plan == "probe":
        probe = probe_steps(lambda: make_module(settings, job), job.data, spec, figures.parts, _TRIED_STEPS)
        found = measured(figures, probe)
    if not distributed.is_rank_zero():
        return
    if settings.plan is True and settings.micro_batch_size == "auto":
        log.info("micro_batch_size=auto is tried when the run begins; until then it is what null gives")
    show(sections(figures, found, settings.price), get_console())


def _uncompiled(settings: RunSettings, job: TrainingJob) -> TrainingModule[Any, Any]:
    task = job.make_module()
    recompute_activations(task.model, settings.activation_checkpointing)
    task.averages_weights = any(map(_averages_weights, settings.callbacks.values()))
    return task


def _averages_weights(node: dict[str, Any] | None) -> bool:
    made = None if node is None else hydra.utils.get_object(node["_target_"])
    return isinstance(made, type) and issubclass(made, WeightAveraging)
