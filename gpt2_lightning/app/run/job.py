"""Training jobs, and their runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2_lightning.checkpoints.content import Description
from gpt2_lightning.data.sampling.base_datamodule import SampleDataModule
from gpt2_lightning.training.callbacks import Metrics
from gpt2_lightning.training.lightning_module import TrainingModule


@dataclass(frozen=True)
class TrainingJob:
    """Data and LightningModule of a task, with hooks at the start and end of training."""

    data: SampleDataModule
    description: Description
    """Description of the trained model, saved in each checkpoint."""
    block_size: int
    """Tokens per sample, to convert a limit in tokens into steps."""
    make_module: Callable[[], TrainingModule[Any, Any]]
    """Make the LightningModule; called after the random seed is set."""
    on_start: Callable[[Run], None]
    """Called on rank zero before the first step."""
    on_end: Callable[[Run], None]
    """Called on rank zero after the last step."""
    excluded_callbacks: frozenset[str] = frozenset()
    """Callbacks of the configuration that do not apply to this task."""


@dataclass(frozen=True)
class Run:
    """A started run of a training job."""

    job: TrainingJob
    task: TrainingModule[Any, Any]
    metrics: Metrics
    callbacks: Sequence[object]
    max_steps: int
    folder: Path
    resumed: Path | None
    """Checkpoint that the run resumed from; None for a new run."""
