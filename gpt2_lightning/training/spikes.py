"""Loss spikes: detection, and the exception that takes a run back to an earlier checkpoint."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from gpt2_lightning.checkpoints import files
from gpt2_lightning.training import distributed
from gpt2_lightning.training.saving.checkpoint_io import AtomicCheckpointIO

WINDOW = 100
"""Steps whose losses determine what the next loss may be."""
_FEWEST = 20
"""Steps before the first judgement of a finite loss."""
_SPREADS = 10.0
"""Deviation from the median, in standard deviations, above which a loss is a spike."""
_MAD_TO_SIGMA = 1.4826
"""Standard deviation of a normal distribution divided by its median absolute deviation."""
_LARGEST_DEVIATIONS = 2.0
"""Deviation from the median, in multiples of the largest one of the window, above which a loss is a spike."""
STATE_KEY = "LossSpikes"
"""Key of the state of `SpikeWatch` and `SpikeGuard` in a checkpoint's `callbacks`."""


@dataclass(frozen=True)
class Spike:
    """A training loss that is not finite, or far above those of the steps before."""

    step: int
    loss: float
    median: float
    """Median of the losses of the steps before; NaN if there are none."""
    spread: float
    """Their standard deviation, estimated from the median absolute deviation."""
    steps: int
    """Number of these steps."""

    def __str__(self) -> str:
        text = f"the training loss is {self.loss:.4g} at step {self.step:,}"
        if not self.steps:
            return text
        return f"{text}; the {self.steps} steps before had a median of {self.median:.4g} ± {self.spread:.2g}"


class SpikeDetector:
    """Judge each training loss by the last `WINDOW` ones.

    A spike is a loss that is not finite, or that is above the median by 10 standard deviations (estimated as 1.4826
    times the median absolute deviation) and by twice the largest deviation in the window: the losses of a classifier
    have long tails, in which the first limit alone would find spikes. A spike is itself part of the window of the next
    steps, so that a loss that stays high is one spike.

    Args:
        losses: losses of the steps before, oldest first.
    """

    def __init__(self, losses: Sequence[float] = ()) -> None:
        self._losses = deque(losses, maxlen=WINDOW)

    @property
    def losses(self) -> list[float]:
        """The finite losses of the last steps, oldest first."""
        return list(self._losses)

    def judge(self, step: int, loss: float) -> Spike | None:
        """Return the spike that the loss of a step is, if it is one, and add the loss to the window."""
        before = self.losses
        if math.isfinite(loss):
            self._losses.append(loss)
            if len(before) < _FEWEST:
                return None
        center = median(before) if before else math.nan
        deviations = [value - center for value in before]
        spread = _MAD_TO_SIGMA * median(map(abs, deviations)) if before else math.nan
        if math.isfinite(loss) and loss - center <= max(_SPREADS * spread, _LARGEST_DEVIATIONS * max(deviations)):
            return None
        return Spike(step, loss, center, spread, len(before))


class RollBack(Exception):
    """Raised when training must continue from an earlier checkpoint, without some samples.

    Args:
        checkpoint: the checkpoint.
        data_key: key of the data module's state in it.
        skipped: all samples that the run skips, see `TrainingBatches`.
        rollbacks: number of rollbacks of the run, with this one.
    """

    def __init__(self, checkpoint: Path, data_key: str, skipped: Sequence[tuple[int, int]], rollbacks: int) -> None:
        super().__init__(f"back to {checkpoint.name}")
        self.checkpoint, self.data_key = checkpoint, data_key
        self.skipped, self.rollbacks = skipped, rollbacks

    def preload(self, checkpoint_io: AtomicCheckpointIO) -> None:
        """Let the next Trainer load the checkpoint with the present skipped samples and rollbacks."""
        if distributed.is_rank_zero():
            content = files.read(self.checkpoint)
            self._apply(content)
            checkpoint_io.preload(content)

    def _apply(self, content: dict[str, Any]) -> None:
        content[self.data_key]["skipped"] = [list(part) for part in self.skipped]
        state = content["callbacks"].setdefault(STATE_KEY, {"losses": [], "spikes": []})
        state["rollbacks"] = self.rollbacks
