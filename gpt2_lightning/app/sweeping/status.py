"""How far each run of a sweep is: a small file in its folder."""

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

FILE = "status.json"
ENDED = ("done", "pruned")
"""States of a run that has nothing left to do."""
_PLACES = ("run_dir", "resume")
"""Settings that say nothing of what a run computes."""
_ADDED: dict[str, Any] = {"metrics": {}, "replay": None}
"""Settings that sweeps of earlier versions lack, with the values that change nothing of what those computed."""


@dataclass(frozen=True)
class Status:
    """A run of a sweep, as its file tells it."""

    settings: dict[str, str]
    """The swept keys and this run's values, as a user types them."""
    digest: str
    """Of all its settings; see `digest_of`."""
    state: Literal["waiting", "running", "done", "pruned", "stopped", "failed"] = "waiting"
    value: float | None = None
    """The lowest validation loss, of a run that has ended."""
    seconds: float = 0.0
    """How long it took, over all its starts."""
    pid: int | None = None
    """The process that runs it, or did so last."""
    error: str = ""
    """Why it failed."""

    @classmethod
    def read(cls, run: Path) -> Status | None:
        """The status of the run in a folder; None where there is none.

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
        """Why it failed, in a line: the last one of a trace."""
        return (self.error.strip().splitlines() or ["unknown"])[-1]

    def write(self, run: Path) -> None:
        """Write it into the folder of the run, which is made where it is not there."""
        write_text(run / FILE, json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n")

    def now(self, **changes: Any) -> Status:
        """The same with some fields changed."""
        return dataclasses.replace(self, **changes)


def digest_of(*parts: Any) -> str:
    """Sixteen hexadecimal digits of plain values: equal for equal values, wherever a run lies and whichever version."""
    kept = [_identity(part) if isinstance(part, dict) else part for part in parts]
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def _identity(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that tell a run from others, as the first version that swept wrote them."""
    kept = {k: v for k, v in settings.items() if k not in _PLACES and not (k in _ADDED and v == _ADDED[k])}
    return with_targets(kept, original)
