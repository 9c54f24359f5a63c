"""Log output: messages on the terminal, and with timestamps in a run's train.log."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from pathlib import Path

from rich import get_console

_PACKAGE = "gpt2_lightning"
_NOT_FOR_USERS = (
    # Batches are slices of a memory map, so workers would only add copies.
    ".*does not have many workers.*",
    # Chosen by the user with trainer.accelerator.
    ".*available but not used.*",
    # A run may use one device of a machine that has Slurm; `trainer=slurm` requires srun.
    ".*available on your system but is not used.*",
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


class _LogFile(logging.Handler):
    """Handler that appends messages to a file; at an error, such as a full disk, it reports it once and stops.

    The file is unbuffered: nothing is left to be written when it is closed.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._path, self._file = file, file.open("ab", buffering=0)
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        if self._file.closed:
            return
        left = f"{self.format(record)}\n".encode()
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self.close()
            print(f"{self._path} cannot be written: {error.strerror}; the log ends here", file=sys.stderr)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        super().close()


def log_to_file(file: Path) -> logging.Handler:
    """Log messages to a file, too; pass the returned handler to `stop_logging_to` at the end of the run."""
    handler = _LogFile(file)
    logging.getLogger(_PACKAGE).addHandler(handler)
    return handler


def stop_logging_to(handler: logging.Handler) -> None:
    logging.getLogger(_PACKAGE).removeHandler(handler)
    handler.close()
