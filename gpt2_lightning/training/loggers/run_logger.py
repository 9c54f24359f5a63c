"""Base class of the loggers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch.loggers import Logger

from gpt2_lightning.errors import UserError


class RunLogger(Logger):
    """Lightning's logger with texts and images.

    Subclasses must define `log_metrics`. The constructor must not open the run: `log_hyperparams`, which is called
    first, does.
    """

    package: ClassVar[str | None] = None
    """Required package, which is also the name of the extra; None if there is none."""

    @property
    def name(self) -> str:
        return self.package or type(self).__name__

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: dict[str, Any], *_: Any, **__: Any) -> None:  # type: ignore[override]  # narrower
        """Open the run, with the configuration and, under `git`, the state of the code."""

    def log_text(self, key: str, text: str, step: int) -> None:
        """Log a text, such as a generated sample."""

    def log_picture(self, key: str, file: Path, step: int) -> None:
        """Log a PNG file."""


def require_package(logger: Logger) -> None:
    """Check that the package of a logger is installed, without importing it.

    Raises:
        UserError: if it is not installed.
    """
    if not isinstance(logger, RunLogger) or logger.package is None:
        return
    found = importlib.util.find_spec(logger.package)
    if found is None or found.origin is None:  # a folder of that name, such as W&B's output, is no package
        raise UserError(
            f"logger={logger.package} needs {logger.package}: pip install 'gpt2-lightning[{logger.package}]'"
        )


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def kept_id(file: Path) -> str | None:
    """Return the id of a run in a logging service, saved in `file`; None for a new run."""
    return file.read_text(encoding="utf-8").strip() if file.exists() else None
