"""Status of each run of a sweep, saved as JSON in its folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gpt2_lightning.app.config.moved import original, with_targets
from gpt2_lightning.atomic import write_text
from gpt2_lightning.errors import UserError
from gpt2_lightning.training.metrics.monitor import VAL_LOSS

FILE = "status.json"
ENDED = ("done", "pruned")
"""States of a run that is complete."""
_PLACES = ("run_dir", "resume", "trusted_modules")
"""Settings that do not affect the computation of a run."""
_ADDED: dict[str, Any] = {
    "metrics": {},
    "replay": None,
    "benchmarks": {},
    "data_dir": None,
    "monitor": VAL_LOSS,
    "monitor_mode": "auto",
}
"""Settings added since the first version, with defaults that leave the results of earlier sweeps unchanged."""

_PRECISIONS = {"auto": "fp32", "fp32": "float32"}
"""Names of precisions in digests. The default was `fp32`, which equals the present default `auto` on CPUs."""


@dataclass(frozen=True)
class Status:
    """Status of one run of a sweep."""

    settings: dict[str, str]
    """Swept keys and their values in this run, as typed on the command line."""
    digest: str
    """Digest of all settings; see `digest_of`."""
    state: Literal["waiting", "running", "done", "pruned", "stopped", "failed"] = "waiting"
    value: float | None = None
    """Best value of the monitored metric, by default the lowest validation loss, of a run that has ended."""
    seconds: float = 0.0
    """Running time in seconds, summed over all starts."""
    pid: int | None = None
    """Process ID of the latest start."""
    error: str = ""
    """Error message or stack trace of a failed run."""

    @classmethod
    def read(cls, run: Path) -> Status | None:
        """Read the status from the folder of a run; None if there is none.

        Raises:
            UserError: if the file is damaged.
        """
        file = run / FILE
        try:
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{file} cannot be read: {error}; remove it, and its run starts over") from None

    @property
    def reason(self) -> str:
        """Last line of `error`."""
        return (self.error.strip().splitlines() or ["unknown"])[-1]

    def write(self, run: Path) -> None:
        """Write the status into the folder of a run, creating the folder if necessary."""
        write_text(run / FILE, json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n")

    def now(self, **changes: Any) -> Status:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)


def digest_of(*parts: Any) -> str:
    """Hash plain values to 16 hexadecimal digits, independent of the run's folder and of this package's version."""
    kept = [_identity(part) if isinstance(part, dict) else part for part in parts]
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def _identity(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that identify a run, in the form of the first version that supported sweeps."""
    kept = {k: v for k, v in settings.items() if k not in _PLACES and not (k in _ADDED and v == _ADDED[k])}
    if isinstance(trainer := kept.get("trainer"), dict) and "precision" in trainer:
        kept["trainer"] = {**trainer, "precision": _PRECISIONS.get(trainer["precision"], trainer["precision"])}
    return with_targets(kept, original)
