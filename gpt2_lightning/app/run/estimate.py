"""What is known of a run before it begins: how large its micro-batches are, and what it takes."""

from __future__ import annotations

import logging
from typing import Any

from rich import get_console

from gpt2_lightning.app.config import build
from gpt2_lightning.app.output.sections import show
from gpt2_lightning.app.run.estimate_counts import count, measured
from gpt2_lightning.app.run.estimate_report import sections
from gpt2_lightning.app.run.job import TrainingJob
from gpt2_lightning.app.run.settings import RunSettings
from gpt2_lightning.training import distributed
from gpt2_lightning.training.lightning_module import TrainingModule
from gpt2_lightning.training.performance.compilation import compile_blocks, recompute_activations
from gpt2_lightning.training.performance.micro_batch_search import find_micro_batch
from gpt2_lightning.training.performance.probe import probe_steps
from gpt2_lightning.training.trainer import TrainerSpec

log = logging.getLogger(__name__)

_TRIED_STEPS = 4


def make_module(settings: RunSettings, job: TrainingJob) -> TrainingModule[Any, Any]:
    """Make the LightningModule of a run, with its metrics and with what makes it faster or smaller."""
    task = _uncompiled(settings, job)
    for name, node in settings.metrics.items():
        if node is not None:
            task.metrics[name] = build.make(node, num_classes=task.num_classes)
    compile_blocks(task.model, settings.compile)
    return task


def search_micro_batch(settings: RunSettings, job: TrainingJob, spec: TrainerSpec) -> None:
    """Find the largest micro-batch that fits, and use it.

    Raises:
        UserError: if there is none.
    """
    share = job.data.batch_size // spec.processes()
    found = find_micro_batch(lambda: make_module(settings, job), job.data, spec, share, job.block_size)
    log.info("tried:  micro-batches of %s are the largest that fit, of a share of %s", f"{found:,}", f"{share:,}")


def batch_sizes(settings: RunSettings, job: TrainingJob) -> dict[str, int | None]:
    """The settings of the batch as they came out, for the run's configuration."""
    tried = {"micro_batch_size": job.data.micro_batch_size} if settings.micro_batch_size == "auto" else {}
    return {"batch_size": job.data.batch_size, "batch_tokens": None, **tried}


def show_estimate(settings: RunSettings, job: TrainingJob, spec: TrainerSpec, max_steps: int) -> None:
    """Print what the run takes; with `plan=probe`, after a few steps."""
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
    return task
