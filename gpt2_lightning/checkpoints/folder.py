"""Folder of the checkpoints of a run: `step-000500.ckpt`, … and `best.ckpt`, each written atomically."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = "checkpoints"
"""Name of the folder, below that of the run."""
BEST = "best.ckpt"
"""The checkpoint of the best value of the monitored metric, by default the lowest validation loss."""
EVALUATION = "evaluation"
"""Name of the folder of evaluations."""
_STEP_NAME = re.compile(r"step-(\d+)\.ckpt")


def step_name(step: int) -> str:
    """File name of the checkpoint after an optimizer step."""
    return f"step-{step:06d}.ckpt"


def step_of(checkpoint: Path) -> int | None:
    """The step in the name of a checkpoint; None for `best.ckpt` and other names."""
    match = _STEP_NAME.fullmatch(checkpoint.name)
    return int(match[1]) if match else None


def by_step(run: Path) -> list[Path]:
    """Step checkpoints of a run, oldest first."""
    steps = {file: step_of(file) for file in (run / FOLDER).glob("step-*.ckpt")}
    return sorted((file for file, step in steps.items() if step is not None), key=lambda file: steps[file] or 0)


def newest(run: Path) -> Path | None:
    """The checkpoint of the last saved step of a run; the best one where there is no other."""
    best_so_far = run / FOLDER / BEST
    return next(reversed(by_step(run)), best_so_far if best_so_far.exists() else None)


def newest_before(run: Path, step: int) -> Path | None:
    """The newest step checkpoint of a run that is before a step; None where there is none."""
    return next((file for file in reversed(by_step(run)) if (step_of(file) or 0) < step), None)


def set_aside_after(run: Path, step: int) -> None:
    """Rename checkpoints of later steps to `abandoned-…`: they are kept, but not considered the newest."""
    for checkpoint in by_step(run):
        if (step_of(checkpoint) or 0) > step:
            checkpoint.replace(checkpoint.with_name(f"abandoned-{checkpoint.name}"))


def best(run: Path) -> Path | None:
    """The best checkpoint of a run; the newest where none has been validated."""
    path = run / FOLDER / BEST
    return path if path.exists() else newest(run)


def run_of(checkpoint: Path) -> Path | None:
    """Folder of the run of a checkpoint; None for a checkpoint outside of a run."""
    return checkpoint.parent.parent if checkpoint.parent.name == FOLDER else None


def evaluation_of(model: Path) -> Path:
    """Folder of the evaluation of a model: `RUN/evaluation/NAME`; outside a run, `evaluation/NAME` beside the model."""
    path = model.absolute()
    return (run_of(path) or path.parent) / EVALUATION / (path.name if path.is_dir() else path.stem)
