"""A run, from its folder to its summary; the same for every task."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from gpt2_lightning.app.config import build
from gpt2_lightning.app.output.logs import log_to_file, stop_logging_to
from gpt2_lightning.app.run import rank_failures
from gpt2_lightning.app.run.estimate import fit_micro_batch, make_task, show_plan, sizes
from gpt2_lightning.app.run.resume import choose_checkpoint, log_changes, say_how_to_go_on
from gpt2_lightning.app.run.settings import RunSettings
from gpt2_lightning.checkpoints import runs
from gpt2_lightning.checkpoints.content import Description
from gpt2_lightning.checkpoints.folder import run_of
from gpt2_lightning.checkpoints.runs import make_folder
from gpt2_lightning.data.sampling.base_datamodule import SampleDataModule
from gpt2_lightning.errors import UserError
from gpt2_lightning.inspection.curves.loss_curve import draw_loss
from gpt2_lightning.memory import is_exhausted
from gpt2_lightning.training import distributed
from gpt2_lightning.training.callbacks import Metrics, assemble
from gpt2_lightning.training.interrupts import Interrupted
from gpt2_lightning.training.lightning_module import TrainingTask
from gpt2_lightning.training.loggers import Guarded, guard, recording
from gpt2_lightning.training.loggers.csv_logger import FILE as METRICS
from gpt2_lightning.training.loggers.git_state import git_state
from gpt2_lightning.training.performance.compilation import as_written
from gpt2_lightning.training.precision import choose as choose_precision

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a run trains, and on what."""

    data: SampleDataModule
    description: Description
    """Of what comes out."""
    block_size: int
    """Tokens of a sample, for a limit in tokens."""
    make_task: Callable[[], TrainingTask[Any, Any]]
    """Called when the random state is set."""
    begin: Callable[[Run], None]
    """Called before the first step."""
    finish: Callable[[Run], None]
    """Called after the last."""
    without: frozenset[str] = frozenset()
    """Callbacks of the settings that make no sense for it."""


@dataclass(frozen=True)
class Run:
    """A run that has begun."""

    plan: Plan
    task: TrainingTask[Any, Any]
    metrics: Metrics
    callbacks: Sequence[object]
    max_steps: int
    folder: Path
    resumed: Path | None
    """The checkpoint that it went on from."""


def carry_out(verb: str, settings: RunSettings, plain: dict[str, Any], plan: Plan) -> float:
    """Train, and leave a run's folder behind.

    Args:
        verb: for the command that goes on.
        settings: those of every run.
        plain: the resolved configuration, which goes into the folder.
        plan: what to train.

    Returns:
        The lowest validation loss; NaN where the run was only planned.
    """
    _loggers(settings, Path(settings.run_dir))  # says before there is a folder what is not installed
    trainer_spec = build.make(settings.trainer)
    per_epoch = plan.data.samples.per_epoch
    max_steps = trainer_spec.steps(plan.data.batch_size, plan.block_size, per_epoch)
    if settings.micro_batch_size == "auto" and settings.plan is not True:
        fit_micro_batch(settings, plan, trainer_spec)
    if settings.plan:
        with _telling_of_memory(plan.data.micro_batch_size):
            show_plan(settings, plan, trainer_spec, max_steps)
        distributed.leave()
        return math.nan
    plain |= sizes(settings, plan)
    wanted = Path(settings.run_dir)

    def choose() -> tuple[Path | None, Path]:
        resumed = choose_checkpoint(settings.resume, wanted, plan.description, max_steps)
        its_own = run_of(resumed) if resumed else None
        return resumed, its_own or make_folder(wanted, may_be_there=_in_a_sweep() or settings.resume == "here")

    resumed, run_dir = distributed.broadcast(choose)
    plain["run_dir"] = str(run_dir)
    rank_failures.note_run(run_dir)
    speaks = distributed.is_rank_zero()
    log_file = _open_folder(run_dir, plain) if speaks else logging.NullHandler()
    micro_batch_size = plan.data.micro_batch_size
    try:
        if resumed:
            log_changes(resumed, plain)
        loggers = _loggers(settings, run_dir) if speaks else []
        torch.manual_seed(settings.seed)
        with _telling_of_memory(micro_batch_size):
            task = make_task(settings, plan)
        if distributed.rank():
            torch.manual_seed(settings.seed + distributed.rank())  # dropout is of each process's own
        precision = choose_precision(trainer_spec.precision, trainer_spec.device_type)
        metrics = Metrics(trainer_spec.log_every_n_steps, precision)
        chosen = {name: node for name, node in settings.callbacks.items() if name not in plan.without}
        callbacks = assemble(metrics, build.make_all(chosen, run_dir=run_dir))
        trainer = trainer_spec.build(
            max_steps, plan.data.batch_size // (micro_batch_size * distributed.world_size()), callbacks, loggers
        )
        run = Run(plan, task, metrics, callbacks, max_steps, run_dir, resumed)
        if speaks:
            if (remark := trainer_spec.precision_remark()) is not None:
                log.info("precision: %s", remark)
            plan.begin(run)
        with recording(loggers, plain | {"git": git_state(Path.cwd())}):
            try:
                with _telling_of_memory(micro_batch_size):
                    _fit(trainer, run)
            except Interrupted as stop:
                if speaks:
                    _draw(run_dir, settings.name)
                    _log_pictures(run_dir, loggers, trainer.global_step)
                    say_how_to_go_on(verb, stop, trainer.global_step, run_dir)
                if stop.saved:
                    distributed.leave_together()
                raise SystemExit(stop.exit_code) from None
            task.put_together()
            distributed.leave()
            if speaks:
                _draw(run_dir, settings.name)
                with as_written():
                    plan.finish(run)
                _log_pictures(run_dir, loggers, trainer.global_step)
        return metrics.best_val_loss
    except UserError as error:
        log_file.emit(logging.makeLogRecord({"msg": f"error: {error}", "level": logging.ERROR}))
        raise
    finally:
        stop_logging_to(log_file)


def _loggers(settings: RunSettings, run_dir: Path) -> list[Guarded]:
    name, sweep = f"{settings.name}/{run_dir.name}", run_dir.parent.name if _in_a_sweep() else None
    try:
        return guard(build.make_all(settings.logger, run_dir=run_dir, run_name=name, sweep=sweep))
    except ImportError as error:  # so Lightning's own say what they need
        raise UserError(f"logger: {error}") from None


def _fit(trainer: Any, run: Run) -> None:
    try:
        trainer.fit(run.task, datamodule=run.plan.data, ckpt_path=run.resumed, weights_only=True)
    except SystemExit:  # so Lightning ends after a Ctrl-C that came before the first step
        raise KeyboardInterrupt from None


@contextlib.contextmanager
def _telling_of_memory(micro_batch_size: int) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        message = str(error)
        if not is_exhausted(error):
            raise
        reason = message.splitlines()[0] if message else "MemoryError"
        raise UserError(
            f"there is not enough memory ({reason}); set micro_batch_size below {micro_batch_size}, "
            "use precision=bf16, or choose a smaller model or model.block_size"
        ) from None


def _in_a_sweep() -> bool:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.get().mode == RunMode.MULTIRUN


def _open_folder(run_dir: Path, plain: dict[str, Any]) -> logging.Handler:
    """Write the configuration and begin the log."""
    try:
        config = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
        (run_dir / runs.CONFIG).write_text(config, encoding="utf-8")
        return log_to_file(run_dir / runs.LOG)
    except OSError as error:
        raise UserError(f"run_dir: {run_dir} cannot be written: {error.strerror}; set run_dir or runs_dir") from None


def _draw(run_dir: Path, title: str) -> None:
    metrics, picture = run_dir / METRICS, run_dir / runs.LOSS_PICTURE
    if metrics.exists():
        draw_loss(metrics, picture, title)


def _log_pictures(run_dir: Path, loggers: Sequence[Guarded], step: int) -> None:
    """The loss, and what the task has drawn."""
    for picture in sorted(run_dir.glob("*.png")):
        for logger in loggers:
            logger.log_picture(picture.stem, picture, step)
