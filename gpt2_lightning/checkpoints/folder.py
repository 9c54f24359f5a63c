"""A run's folder of checkpoints: `step-000500.ckpt`, … and `best.ckpt`. A file has its name only once it is whole."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = "checkpoints"
"""Name of the folder inside a run's."""
BEST = "best.ckpt"
"""The checkpoint of the lowest validation loss."""
_STEP_NAME = re.compile(r"step-(\d+)\.ckpt")


def step_name(step: int) -> str:
    """File name of the checkpoint after an optimizer step."""
    return f"step-{step:06d}.ckpt"


def step_of(checkpoint: Path) -> int | None:
    """The step in a checkpoint's file name; none in `best.ckpt` and in names of another origin."""
    match = _STEP_NAME.fullmatch(checkpoint.name)
    return int(match[1]) if match else None


def by_step(run: Path) -> list[Path]:
    """A run's step checkpoints, the oldest first."""
    steps = {file: step_of(file) for file in (run / FOLDER).glob("step-*.ckpt")}
    return sorted((file for file, step in steps.items() if step is not None), key=lambda file: steps[file] or 0)


def newest(run: Path) -> Path | None:
    """The checkpoint of a run's last saved step; its best one where no other was saved yet."""
    best_so_far = run / FOLDER / BEST
    return next(reversed(by_step(run)), best_so_far if best_so_far.exists() else None)


def set_aside_after(run: Path, step: int) -> None:
    """Rename the checkpoints of later steps to `abandoned-…`: they are kept, but no longer taken for the newest."""
    for checkpoint in by_step(run):
        if (step_of(checkpoint) or 0) > step:
            checkpoint.replace(checkpoint.with_name(f"abandoned-{checkpoint.name}"))


def best(run: Path) -> Path | None:
    """A run's best checkpoint; the newest where none was validated yet."""
    path = run / FOLDER / BEST
    return path if path.exists() else newest(run)


def run_of(checkpoint: Path) -> Path | None:
    """The run's folder that a checkpoint lies in; none for one that was copied elsewhere."""
    return checkpoint.parent.parent if checkpoint.parent.name == FOLDER else None
