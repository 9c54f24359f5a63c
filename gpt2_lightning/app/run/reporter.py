"""Output of a run, on rank zero only: the folder, log file, loggers and summary."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from gpt2_lightning.app.config import build
from gpt2_lightning.app.output.logs import log_to_file, stop_logging_to
from gpt2_lightning.app.run.job import Run
from gpt2_lightning.app.run.resume import log_how_to_resume
from gpt2_lightning.app.run.settings import RunSettings
from gpt2_lightning.atomic import write_text
from gpt2_lightning.atomic_replace import replacing
from gpt2_lightning.checkpoints import runs
from gpt2_lightning.checkpoints.content import weights_hash
from gpt2_lightning.checkpoints.runs import remove_folder
from gpt2_lightning.errors import UserError
from gpt2_lightning.inspection.curves.loss_curve import draw_loss
from gpt2_lightning.training import distributed
from gpt2_lightning.training.interrupts import Interrupted
from gpt2_lightning.training.loggers import Guarded, guard, recording
from gpt2_lightning.training.loggers.csv_logger import FILE as METRICS
from gpt2_lightning.training.loggers.git_state import git_state
from gpt2_lightning.training.performance.compilation import as_written

log = logging.getLogger(__name__)


class Reporter:
    """Base class, and the reporter of every rank but zero: does nothing."""

    loggers: Sequence[Guarded] = ()

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the loggers and the log file."""

    def on_start(self, run: Run) -> None:
        """Called before the first step."""

    def reopen_loggers(self) -> None:
        """Close the loggers, and open them as a resumed run does: they then drop what it repeats."""

    def on_interrupt(self, run: Run, stop: Interrupted) -> None:
        """Called when training was stopped by a signal."""

    def on_end(self, run: Run) -> None:
        """Called after the last step, when rank zero holds the whole model."""


class RankZeroReporter(Reporter):
    """Writes the configuration, the log, metrics and plots into the run's folder, and prints the summary.

    Args:
        verb: `train` or `finetune`.
        settings: settings of the run.
        plain: the resolved configuration, which is saved.
        run_dir: the run's folder.
        first_step: step from which the run continues in a folder that was made for it; None for a folder that existed.
            A user's mistake that is found before another step removes the new folder.
    """

    def __init__(
        self, verb: str, settings: RunSettings, plain: dict[str, Any], run_dir: Path, first_step: int | None = None
    ) -> None:
        self._verb, self._name, self._plain, self._run_dir = verb, settings.name, plain, run_dir
        self._first_step = first_step
        self._run: Run | None = None
        self._exit = contextlib.ExitStack()
        self._log_file = _open_folder(run_dir, plain)
        self._settings = settings
        self.loggers = make_loggers(settings, run_dir)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._exit.__exit__(kind, error, trace)
        finally:
            if isinstance(error, UserError):
                self._log_file.emit(logging.makeLogRecord({"msg": f"error: {error}", "level": logging.ERROR}))
            stop_logging_to(self._log_file)
            if isinstance(error, UserError) and self._first_step is not None:
                step = self._run.task.global_step if self._run else self._first_step
                if step <= self._first_step:
                    remove_folder(self._run_dir)

    def on_start(self, run: Run) -> None:
        self._run = run
        run.job.on_start(run)
        self._open_loggers()

    def reopen_loggers(self) -> None:
        self._exit.close()
        self.loggers = make_loggers(self._settings, self._run_dir)
        self._open_loggers()

    def _open_loggers(self) -> None:
        self._exit.enter_context(recording(self.loggers, self._plain | {"git": git_state(Path.cwd())}))

    def on_interrupt(self, run: Run, stop: Interrupted) -> None:
        step = run.task.trainer.global_step
        self._draw_loss()
        self._log_plots(step)
        log_how_to_resume(self._verb, stop, step, self._run_dir)

    def on_end(self, run: Run) -> None:
        log.info("weights: SHA-256 %s", weights_hash(run.task.model, "sha256"))
        self._draw_loss()
        with as_written():
            run.job.on_end(run)
        self._log_plots(run.task.trainer.global_step)

    def _draw_loss(self) -> None:
        metrics = self._run_dir / METRICS
        if metrics.exists():
            with replacing(self._run_dir / runs.LOSS_PICTURE, "run_dir") as temporary:
                draw_loss(metrics, temporary, self._name)

    def _log_plots(self, step: int) -> None:
        for plot in sorted(self._run_dir.glob("*.png")):
            for logger in self.loggers:
                logger.log_picture(plot.stem, plot, step)


def open_reporter(
    verb: str, settings: RunSettings, plain: dict[str, Any], run_dir: Path, first_step: int | None
) -> Reporter:
    """Return the reporter of this rank; see `RankZeroReporter`."""
    return RankZeroReporter(verb, settings, plain, run_dir, first_step) if distributed.is_rank_zero() else Reporter()


def make_loggers(settings: RunSettings, run_dir: Path) -> list[Guarded]:
    """Make the loggers of the configuration.

    Raises:
        UserError: if a package is not installed.
    """
    name, sweep = f"{settings.name}/{run_dir.name}", run_dir.parent.name if in_sweep() else None
    try:
        return guard(build.make_all(settings.logger, run_dir=run_dir, run_name=name, sweep=sweep))
    except ImportError as error:  # raised by Lightning's own loggers, with the name of the package
        raise UserError(f"logger: {error}") from None


def in_sweep() -> bool:
    """Whether this run is a job of Hydra's multirun mode."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.get().mode == RunMode.MULTIRUN


def _open_folder(run_dir: Path, plain: dict[str, Any]) -> logging.Handler:
    """Save the configuration and open the log file."""
    try:
        config = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
        write_text(run_dir / runs.CONFIG, config)
        return log_to_file(run_dir / runs.LOG)
    except OSError as error:
        raise UserError(f"run_dir: {run_dir} cannot be written: {error.strerror}; set run_dir or runs_dir") from None
