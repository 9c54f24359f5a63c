"""The settings of the verb `sweep`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Lt

from gpt2_lightning.settings import NonNegativeInt, PathText, PositiveInt, Settings, relation
from gpt2_lightning.training.callbacks.pruning import Pruner

_MISSPELT = 0.8
"""How much a key of the trials has to be like one of the search, to be taken for it; see difflib."""


@dataclass(frozen=True, kw_only=True)
class SweepSettings(Settings):
    """The top level of `conf/sweep.yaml`.

    Raises:
        ValueError: with every setting that is out of range.
    """

    verb: Literal["train", "finetune"] = "train"
    """What a trial does."""
    trials: PositiveInt = 20
    """How many in all, over all starts."""
    workers: PositiveInt = 1
    """Trials at the same time."""
    sampler_seed: Annotated[int, Ge(0), Lt(2**31)] = 0
    """Of the draws."""
    pruner: Pruner = "median"
    """What stops bad trials."""
    startup_trials: PositiveInt = 5
    """Trials that are drawn at random, and that `median` waits for."""
    warmup_steps: NonNegativeInt = 0
    """Steps of a trial before it may be stopped."""
    study_dir: PathText | None = None
    """Folder of the study; None for that of the same one, or a new one."""
    overrides: list[str] = field(default_factory=list)
    """Settings of the trials."""

    @relation
    def _overrides_are_of_trials(self) -> Iterator[str]:
        for key in (one.partition("=")[0] for one in self.overrides):
            if key == "hydra/launcher":
                yield f"{key}: a search starts its trials by itself, workers=2 at a time; leave it out"
            for near in difflib.get_close_matches(key, self.__dataclass_fields__, n=1, cutoff=_MISSPELT):
                yield f"{key}: unknown key; did you mean {near}?"
