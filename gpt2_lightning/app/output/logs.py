"""What the program says: to the terminal, and with times to a run's train.log."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

from rich import get_console

_PACKAGE = "gpt2_lightning"
_NOT_FOR_USERS = (
    # Batches are whole slices of a memory map: workers would only add copies.
    ".*does not have many workers.*",
    # Chosen by the user with trainer.accelerator.
    ".*available but not used.*",
    # Between Lightning and torch alone.
    ".*isinstance.treespec, LeafSpec.*",
)


class _Terminal(logging.Handler):
    """Prints as it stands, above a progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        get_console().print(record.getMessage(), soft_wrap=True, markup=False, highlight=False, emoji=False)


def log_to_terminal() -> None:
    """Show this package's messages, and of Lightning's only warnings."""
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
    """Also write the messages to a file; remove the returned handler when the run is over."""
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logging.getLogger(_PACKAGE).addHandler(handler)
    return handler


def stop_logging_to(handler: logging.Handler) -> None:
    logging.getLogger(_PACKAGE).removeHandler(handler)
    handler.close()
