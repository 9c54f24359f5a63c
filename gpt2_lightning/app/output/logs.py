"""Log output: messages on the terminal, and with timestamps in a run's train.log."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

from rich import get_console

_PACKAGE = "gpt2_lightning"
_NOT_FOR_USERS = (
    # Batches are slices of a memory map, so workers would only add copies.
    ".*does not have many workers.*",
    # Chosen by the user with trainer.accelerator.
    ".*available but not used.*",
    # Deprecated in torch and used by Lightning; not caused by this package.
    ".*isinstance.treespec, LeafSpec.*",
)


class _Terminal(logging.Handler):
    """Handler that prints messages without formatting, above any progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        get_console().print(record.getMessage(), soft_wrap=True, markup=False, highlight=False, emoji=False)


def log_to_terminal() -> None:
    """Log this package's messages to the terminal, and only warnings of Lightning."""
    logger = logging.getLogger(_PACKAGE)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(_Terminal())
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _NOT_FOR_USERS:
        warnings.filterwarnings("ignore", message=message)


def log_to_file(file: Path) -> logging.Handler:
    """Log messages to a file, too; pass the returned handler to `stop_logging_to` at the end of the run."""
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logging.getLogger(_PACKAGE).addHandler(handler)
    return handler


def stop_logging_to(handler: logging.Handler) -> None:
    logging.getLogger(_PACKAGE).removeHandler(handler)
    handler.close()
