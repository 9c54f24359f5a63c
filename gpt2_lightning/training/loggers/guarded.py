"""Loggers that cannot fail a run, and that are told its end whatever it is."""

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
    """Passes everything on. After a failure, which is said once, it passes nothing on but the end.

    Args:
        logger: one of ours, or of Lightning's, which get no texts and pictures.
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
        """Nothing: Lightning calls it at the end of `fit`, when a run has still something to say. See `end`."""

    def end(self, status: str) -> None:
        """Close the logger, also one that failed."""
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
    """Loggers that cannot fail a run.

    Raises:
        UserError: if what one needs is not installed.
    """
    for logger in loggers:
        require_package(logger)
    return [Guarded(logger) for logger in loggers]


@contextlib.contextmanager
def recording(loggers: Sequence[Guarded], params: dict[str, Any]) -> Iterator[None]:
    """Open loggers, and close them whatever happens inside.

    Args:
        loggers: each is told the end as `success`, `failed` or `interrupted`.
        params: what they are told first: the configuration, and whatever else is known of the run.
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
