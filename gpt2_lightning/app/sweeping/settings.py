"""Settings of the verb `sweep`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Lt

from gpt2_lightning.settings import NonNegativeInt, PathText, PositiveInt, Settings, relation
from gpt2_lightning.training.callbacks.stopping.pruning import Pruner

_MISSPELT = 0.8
"""Minimum `difflib` ratio at which an unknown key counts as a misspelled key of `sweep`."""


@dataclass(frozen=True, kw_only=True)
class SweepSettings(Settings):
    """Top level of `conf/sweep.yaml`.

    Raises:
        ValueError: if settings are out of range; the message lists all of them.
    """

    verb: Literal["train", "finetune"] = "train"
    """Verb that each trial runs."""
    trials: PositiveInt = 20
    """Total number of trials, including those of earlier starts."""
    workers: PositiveInt = 1
    """Number of trials that run in parallel."""
    sampler_seed: Annotated[int, Ge(0), Lt(2**31)] = 0
    """Random seed of the sampler."""
    pruner: Pruner = "median"
    """Pruner, which stops unpromising trials."""
    startup_trials: PositiveInt = 5
    """Number of trials that are sampled at random, and before which `median` does not prune."""
    warmup_steps: NonNegativeInt = 0
    """Optimizer steps of a trial before it may be pruned."""
    study_dir: PathText | None = None
    """Folder of the study; null for that of the same search, or a new one."""
    overrides: list[str] = field(default_factory=list)
    """Overrides of the trials."""

    @relation
    def _overrides_are_of_trials(self) -> Iterator[str]:
        for key in (one.partition("=")[0] for one in self.overrides):
            if key == "hydra/launcher":
                yield f"{key}: a search starts its trials by itself, workers=2 at a time; leave it out"
            for near in difflib.get_close_matches(key, self.__dataclass_fields__, n=1, cutoff=_MISSPELT):
                yield f"{key}: unknown key; did you mean {near}?"
