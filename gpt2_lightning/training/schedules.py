"""Learning-rate schedules: pure functions of the step, without state, so that a change applies to a resumed run.

To add a schedule, define a frozen dataclass with `factor` here, and a YAML in `conf/schedule`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from gpt2_lightning.settings import NonNegativeInt, PositiveShare, Probability, Settings


@runtime_checkable
class Schedule(Protocol):
    """Interface of a schedule, which scales the peak learning rate."""

    def factor(self, step: int, max_steps: int) -> float:
        """Return the factor of the learning rate at optimizer step `step` (from 0) of `max_steps`."""


@dataclass(frozen=True)
class _Warmup(Settings):
    warmup_steps: NonNegativeInt = 100
    """Steps over which the learning rate increases linearly from near 0 to its peak."""

    def factor(self, step: int, max_steps: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        progress = (step - self.warmup_steps) / max(1, max_steps - self.warmup_steps)
        return self._after_warmup(min(progress, 1.0))

    def _after_warmup(self, progress: float) -> float:
        """Return the factor at a fraction `progress` of the steps after the warm-up."""
        return 1.0


@dataclass(frozen=True)
class Constant(_Warmup):
    """Linear warm-up, then the peak learning rate."""


@dataclass(frozen=True)
class _Decay(_Warmup):
    final_fraction: Probability = 0.1
    """Final learning rate, as a fraction of the peak."""

    def _between(self, remaining: float) -> float:
        return self.final_fraction + (1 - self.final_fraction) * remaining


@dataclass(frozen=True)
class Cosine(_Decay):
    """Linear warm-up, then cosine decay to the final rate (Loshchilov and Hutter 2017, equation 5)."""

    def _after_warmup(self, progress: float) -> float:
        return self._between(0.5 * (1 + math.cos(math.pi * progress)))


@dataclass(frozen=True)
class Linear(_Decay):
    """Linear warm-up, then linear decay to the final rate."""

    def _after_warmup(self, progress: float) -> float:
        return self._between(1 - progress)


@dataclass(frozen=True)
class WarmupStableDecay(_Decay):
    """Linear warm-up, constant peak, then linear decay to the final rate (Hu et al. 2024, section 4.2)."""

    decay_fraction: PositiveShare = 0.2
    """Fraction of the steps after the warm-up over which the rate decays."""

    def _after_warmup(self, progress: float) -> float:
        return self._between(min(1.0, (1 - progress) / self.decay_fraction))
