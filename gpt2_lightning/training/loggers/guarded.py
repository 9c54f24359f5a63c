"""Wrapper of loggers: exceptions do not fail the run, and every logger is finalized with the run's status."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from gpt2_lightning.training.loggers.run_logger import RunLogger, require_package

log = logging.getLogger(__name__)


class Guarded(RunLogger):
    """Forward all calls to a logger. After an exception, log one warning and forward only the end of the run.

    Args:
        logger: a `RunLogger`, or a logger of Lightning's, which receives metrics but no texts and images.
    """

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self.logger = logger
        self._failed = False

    @property
    def name(self) -> str:
        return type(self.logger).__name__

    def log_hyperparams(self, params: dict[str, Any], *_: Any, **__: Any) -> None:  # type: ignore[override]
        self._try(lambda: self.logger.log_hyperparams(params))

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._try(lambda: self.logger.log_metrics(metrics, step))

    def log_text(self, key: str, text: str, step: int) -> None:
        if isinstance(logger := self.logger, RunLogger):
            self._try(lambda: logger.log_text(key, text, step))

    def log_picture(self, key: str, file: Path, step: int) -> None:
        if isinstance(logger := self.logger, RunLogger):
            self._try(lambda: logger.log_picture(key, file, step))

    def finalize(self, status: str) -> None:
        """Do nothing: Lightning calls it at the end of `fit`, after which a run still logs. See `end`."""

    def end(self, status: str) -> None:
        """Finalize the logger, also after an exception."""
        if self._failed:
            with contextlib.suppress(Exception):
                self.logger.finalize(status)
        else:
            self._try(lambda: self.logger.finalize(status))

    def _try(self, call: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            call()
        except Exception as error:  # whatever a service may raise
            self._failed = True
            reason = " ".join(str(error).split()) or type(error).__name__
            log.warning("%s failed and gets nothing more of this run, which goes on: %s", self.name, reason)


def guard(loggers: Sequence[Logger]) -> list[Guarded]:
    """Wrap loggers so that their exceptions do not fail the run.

    Raises:
        UserError: if the package of a logger is not installed.
    """
    for logger in loggers:
        require_package(logger)
    return [Guarded(logger) for logger in loggers]


@contextlib.contextmanager
def recording(loggers: Sequence[Guarded], params: dict[str, Any]) -> Iterator[None]:
    """Context manager that opens loggers, and finalizes them also if the body raises.

    Args:
        loggers: loggers, finalized with the status `success`, `failed` or `interrupted`.
        params: hyperparameters, logged first: the configuration and other properties of the run.
    """
    status = "failed"
    try:
        for logger in loggers:
            logger.log_hyperparams(params)
        yield
        status = "success"
    except (KeyboardInterrupt, SystemExit):
        status = "interrupted"
        raise
    finally:
        for logger in loggers:
            logger.end(status)
