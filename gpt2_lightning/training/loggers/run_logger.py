"""What a logger is told of a run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch.loggers import Logger

from gpt2_lightning.errors import UserError


class RunLogger(Logger):
    """Lightning's logger, for texts and pictures as well.

    Only `log_metrics` has to be defined. The constructor opens nothing: `log_hyperparams` is called first.
    """

    package: ClassVar[str | None] = None
    """The package that it needs, which is also the name of the extra; None for no other."""

    @property
    def name(self) -> str:
        return self.package or type(self).__name__

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: dict[str, Any], *_: Any, **__: Any) -> None:  # type: ignore[override]  # narrower
        """Begin the run: the configuration, and the state of the code under `git`."""

    def log_text(self, key: str, text: str, step: int) -> None:
        """Log a text, such as a sample."""

    def log_picture(self, key: str, file: Path, step: int) -> None:
        """Log a PNG file."""


def require_package(logger: Logger) -> None:
    """Make sure that what a logger needs is there, without importing it.

    Raises:
        UserError: if it is not installed.
    """
    if not isinstance(logger, RunLogger) or logger.package is None:
        return
    found = importlib.util.find_spec(logger.package)
    if found is None or found.origin is None:  # a folder of that name, such as W&B leaves behind, is no package
        raise UserError(
            f"logger={logger.package} needs {logger.package}: pip install 'gpt2-lightning[{logger.package}]'"
        )


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def kept_id(file: Path) -> str | None:
    """The name under which a service knows the run of a folder, if it was there before."""
    return file.read_text(encoding="utf-8").strip() if file.exists() else None
