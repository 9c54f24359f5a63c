"""The settings of the verb `sweep`."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from gpt2_lightning.training.callbacks.pruning import Pruner

_MISSPELT = 0.8
"""How much a key of the trials has to be like one of the search, to be taken for it; see difflib."""


@dataclass(frozen=True)
class SweepSettings:
    """The top level of `conf/sweep.yaml`.

    Raises:
        ValueError: with every setting that is out of range.
    """

    verb: Literal["train", "finetune"]
    """What a trial does."""
    trials: int
    """How many in all, over all starts."""
    workers: int
    """Trials at the same time."""
    sampler_seed: int
    """Of the draws."""
    pruner: Pruner
    """What stops bad trials."""
    startup_trials: int
    """Trials that are drawn at random, and that `median` waits for."""
    warmup_steps: int
    """Steps of a trial before it may be stopped."""
    study_dir: str | None
    """Folder of the study; None for that of the same one, or a new one."""
    overrides: list[str]
    """Settings of the trials."""

    def __post_init__(self) -> None:
        lowest = {"trials": 1, "workers": 1, "sampler_seed": 0, "startup_trials": 1, "warmup_steps": 0}
        faults = [
            f"{name}: {getattr(self, name)} is out of range, {least} or more is allowed"
            for name, least in lowest.items()
            if getattr(self, name) < least
        ]
        if self.sampler_seed >= 2**31:
            faults.append(f"sampler_seed: {self.sampler_seed} is out of range, less than 2**31 is allowed")
        for key in (one.partition("=")[0] for one in self.overrides):
            if key == "hydra/launcher":
                faults.append(f"{key}: a search starts its trials by itself, workers=2 at a time; leave it out")
            for near in difflib.get_close_matches(key, self.__dataclass_fields__, n=1, cutoff=_MISSPELT):
                faults.append(f"{key}: unknown key; did you mean {near}?")
        if faults:
            raise ValueError("\n".join(faults))
