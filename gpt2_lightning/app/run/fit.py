"""Train a job: the steps of a run that all tasks share."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gpt2_lightning.app.config import build
from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.app.run import rank_failures
from gpt2_lightning.app.run.estimate import batch_sizes, fill_memory, make_module, search_micro_batch, show_estimate
from gpt2_lightning.app.run.job import Run, TrainingJob
from gpt2_lightning.app.run.lock import locked
from gpt2_lightning.app.run.out_of_memory import explain_out_of_memory
from gpt2_lightning.app.run.reporter import in_sweep, make_loggers, open_reporter
from gpt2_lightning.app.run.resume import load_checkpoint, log_changes
from gpt2_lightning.app.run.settings import RunSettings
from gpt2_lightning.checkpoints.runs import checkpoint_to_resume, make_folder
from gpt2_lightning.errors import UserError
from gpt2_lightning.training import distributed
from gpt2_lightning.training.callbacks import Metrics, assemble
from gpt2_lightning.training.interrupts import Interrupted
from gpt2_lightning.training.lightning_module import TrainingModule
from gpt2_lightning.training.loggers import Guarded
from gpt2_lightning.training.saving.checkpoint_io import AtomicCheckpointIO
from gpt2_lightning.training.spikes import RollBack
from gpt2_lightning.training.trainer import TrainerSpec

log = logging.getLogger(__name__)


def fit(verb: str, settings: RunSettings, plain: dict[str, Any], job: TrainingJob) -> float:
    """Train a model, and write the run's folder.

    Args:
        verb: `train` or `finetune`, for the command that resumes.
        settings: settings that all runs share.
        plain: the resolved configuration, which is saved in the folder.
        job: the training job.

    Returns:
        The best value of the monitored metric, the lowest validation loss by default; NaN if there is none.
    """
    make_loggers(settings, Path(settings.run_dir))  # reports a missing package before there is a folder
    spec = build.make(settings.trainer)
    max_steps = spec.steps(job.data.batch_size, job.block_size, job.data.samples.per_epoch)
    if settings.micro_batch_size == "auto" and settings.plan is not True:
        search_micro_batch(settings, job, spec)
    if settings.plan:
        fill_memory(settings, job, spec, None)
        return _estimate(settings, job, spec, max_steps)
    checkpoint_io = AtomicCheckpointIO()
    with contextlib.ExitStack() as opened:
        start = _start(settings, job, max_steps, checkpoint_io, opened)
        fill_memory(settings, job, spec, start.run_config)
        plain |= {**batch_sizes(settings, job, spec), "run_dir": str(start.folder)}
        rank_failures.note_run(start.folder)
        reporter = opened.enter_context(open_reporter(verb, settings, plain, start.folder, start.first_step))
        if start.run_config is not None:
            log_changes(start.run_config, plain)
        length = max_steps if start.last_step is None else start.last_step
        run, trainer = _prepare(settings, job, spec, length, start, reporter.loggers, checkpoint_io)
        if note := job.description.tokenizer.take_note():
            log.info("texts:  %s", note)
        reporter.on_start(run)
        if start.last_step is not None:
            log.info("training has ended at step %s: what is missing of the report is written", f"{start.last_step:,}")
        try:
            while (back := _train(trainer, run, settings, spec)) is not None:
                del run, trainer  # their memory is needed for the next
                back.preload(checkpoint_io)
                start = replace(start, resumed=back.checkpoint)
                reporter.reopen_loggers()
                run, trainer = _prepare(settings, job, spec, length, start, reporter.loggers, checkpoint_io)
        except Interrupted as stop:
            reporter.on_interrupt(run, stop)
            if stop.saved:
                distributed.leave_together()
            raise SystemExit(stop.exit_code) from None
        run.task.unshard()
        distributed.leave()
        reporter.on_end(run)
    return math.nan if run.metrics.best is None else run.metrics.best


def _estimate(settings: RunSettings, job: TrainingJob, spec: TrainerSpec, max_steps: int) -> float:
    with explain_out_of_memory(settings, job, spec):
        show_estimate(settings, job, spec, max_steps)
    distributed.leave()
    return math.nan


@dataclass(frozen=True)
class _Start:
    """Folder of a run, and the checkpoint that it resumes from."""

    folder: Path
    resumed: Path | None
    """Checkpoint to resume from; None for a new run."""
    run_config: dict[str, Any] | None
    """Configuration of the run that wrote the checkpoint."""
    last_step: int | None = None
    """Step at which training has ended, if only the report is missing."""
    first_step: int | None = None
    """Step from which the run continues in a folder that was made for it; None for a folder that existed."""


def _start(
    settings: RunSettings,
    job: TrainingJob,
    max_steps: int,
    checkpoint_io: AtomicCheckpointIO,
    opened: contextlib.ExitStack,
) -> _Start:
    """Create the run's folder, or find the folder to resume; the checkpoint is read once, on rank zero.

    Rank zero locks the folder until `opened` is closed.
    """

    def choose() -> _Start:
        wanted = Path(settings.run_dir)
        loaded = load_checkpoint(settings.resume, wanted, job.description, max_steps)
        own = loaded.run if loaded else None
        may_be_there = in_sweep() or settings.resume == "here"
        folder = own or make_folder(wanted, may_be_there)
        opened.enter_context(locked(folder))
        if loaded is None:
            return _Start(folder, None, None, first_step=None if may_be_there else 0)
        if checkpoint_to_resume(settings.resume, wanted) != loaded.path:
            raise UserError(f"resume: another program has just continued {display_path(folder)}; repeat the command")
        checkpoint_io.preload(loaded.content)
        step = loaded.content["global_step"]
        last_step = step if loaded.lacks_report else None
        return _Start(folder, loaded.path, loaded.run_config, last_step, None if own or may_be_there else step)

    return distributed.broadcast(choose)


def _prepare(
    settings: RunSettings,
    job: TrainingJob,
    spec: TrainerSpec,
    max_steps: int,
    start: _Start,
    loggers: Sequence[Guarded],
    checkpoint_io: AtomicCheckpointIO,
) -> tuple[Run, Any]:
    """Make the LightningModule, the callbacks and the Trainer."""
    task = _seeded_task(settings, job, spec)
    task.eval_train_batches = spec.eval_train_batches
    metrics = Metrics(spec.log_every_n_steps, spec.resolved_precision, settings.monitored_metric)
    chosen = {name: node for name, node in settings.callbacks.items() if name not in job.excluded_callbacks}
    benchmarks = {name: build.make(node) for name, node in settings.benchmarks.items() if node is not None}
    made = build.make_all(chosen, run_dir=start.folder, benchmarks=benchmarks, data_dir=settings.data_dir)
    callbacks = assemble(metrics, made)
    accumulate = job.data.batch_size // (job.data.micro_batch_size * distributed.world_size())
    trainer = spec.build(max_steps, accumulate, callbacks, loggers, checkpoint_io)
    if (remark := spec.precision_remark()) is not None:
        log.info("precision: %s", remark)
    if (remark := spec.threads_remark()) is not None:
        log.warning("threads: %s", remark)
    return Run(job, task, metrics, callbacks, max_steps, start.folder, start.resumed), trainer


def _seeded_task(settings: RunSettings, job: TrainingJob, spec: TrainerSpec) -> TrainingModule[Any, Any]:
    """Make the LightningModule with equal weights on all ranks; afterwards each rank draws its own dropout."""
    torch.manual_seed(settings.seed)
    with explain_out_of_memory(settings, job, spec):
        task = make_module(settings, job)
    if distributed.rank():
        torch.manual_seed(settings.seed + distributed.rank())
    return task


def _train(trainer: Any, run: Run, settings: RunSettings, spec: TrainerSpec) -> RollBack | None:
    """Train to the end, or to a spike that is to be undone."""
    with explain_out_of_memory(settings, run.job, spec, run):
        try:
            trainer.fit(run.task, datamodule=run.job.data, ckpt_path=run.resumed, weights_only=True)
        except SystemExit:  # Lightning's reaction to a Ctrl-C before the first step
            raise KeyboardInterrupt from None
        except RollBack as back:
            return back.with_traceback(None)  # which would hold the module
    return None
